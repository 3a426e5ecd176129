"""The web application around the router: a gate before it, a clean log, and a supervisor for background jobs."""

from __future__ import annotations

import contextlib
import importlib
import logging
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from mia_core.errors import MemberScopeError
from mia_core.jobs.queue import Queue
from mia_core.jobs.supervisor import ensure_supervisor
from mia_core.seal import SealingKey
from mia_core.store import Store, home_folder, homes
from mia_core.ui.faults import keep_values_out_of_logs
from mia_core.ui.gate import Gate

READY_SECONDS = 4.0
LOADED_LATE = (
    "mia_core.report.cohorts",
    "mia_core.report.comparing",
    "mia_core.report.lookup",
    "mia_core.report.methods",
    "mia_core.report.package",
    "mia_core.report.people",
    "mia_core.ui.letter_form",
)
"""What takes long to import and is not needed by the pages that people see first."""


@contextlib.asynccontextmanager
async def with_supervisor(app: st.App) -> AsyncIterator[None]:
    """Jobs that a crash or a reboot left behind go on as soon as the app is up."""
    keep_values_out_of_logs()
    try:
        # Made at the first start: its public half can be handed out before there is a report.
        SealingKey(home_folder())
        for home in homes():
            if Queue(home).active():
                ensure_supervisor(home)
        threading.Thread(target=_keep_to_the_times, daemon=True).start()
        threading.Thread(target=_get_ready, daemon=True).start()
    except MemberScopeError as error:
        logging.getLogger(__name__).warning("%s", error)
    yield


def _get_ready() -> None:
    """Loads what single pages need, so that whoever opens one of them first does not wait for it."""
    # Whoever started the server looks at its first page now.
    time.sleep(READY_SECONDS)
    for name in LOADED_LATE:
        importlib.import_module(name)
    from mia_core.report.vector_charts import draw_once

    draw_once()


def _keep_to_the_times() -> None:
    """Deletes, at the start and once a day, what has been kept for its time."""
    # Imported here, as above: the server answers before what reads results is loaded.
    from mia_core.retention import enforce, rules

    while True:
        for home in homes():
            try:
                with contextlib.closing(Store(home)) as store:
                    enforce(store, rules())
            except (MemberScopeError, OSError) as error:
                logging.getLogger(__name__).warning("What is past its time stays for now: %s", type(error).__name__)
        time.sleep(86_400)


MIDDLEWARE = [Middleware(Gate)]
ROUTER = Path(__file__).with_name("main.py")
