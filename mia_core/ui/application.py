"""The web application around the router: a gate before it, a clean log, and a supervisor for background jobs."""

from __future__ import annotations

import ast
import contextlib
import importlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from mia_core.data_rights.retention import enforce, rules
from mia_core.errors import MemberScopeError, what_and_where
from mia_core.jobs.queue import Queue
from mia_core.jobs.supervisor import ensure_supervisor
from mia_core.report.vector_charts import draw_once
from mia_core.storage.seal import SealingKey
from mia_core.storage.store import Store, home_folder, homes
from mia_core.ui.faults import keep_values_out_of_logs
from mia_core.ui.gate import Gate

ROUTER = Path(__file__).with_name("main.py")
PAGES = ROUTER.parents[2] / "pages"


@contextlib.asynccontextmanager
async def with_supervisor(app: st.App) -> AsyncIterator[None]:
    """Jobs that a crash or a reboot left behind go on as soon as the app is up."""
    keep_values_out_of_logs()
    load_what_pages_import()
    try:
        # Made at the first start: its public half can be handed out before there is a report.
        SealingKey(home_folder())
        for home in homes():
            if Queue(home).active():
                ensure_supervisor(home)
        threading.Thread(target=_keep_to_the_times, daemon=True).start()
        threading.Thread(target=draw_once, daemon=True).start()
    except MemberScopeError as error:
        logging.getLogger(__name__).warning("%s", error)
    yield


def load_what_pages_import() -> None:
    """Imports what the router and every page import, before anybody asks for one.

    Each view of a page runs in a thread of its own. Two threads that import the same packages at once, from different ends,
    can meet a module that is half loaded: one of the pages fails.
    """
    for script in (ROUTER, *sorted(PAGES.glob("*.py"))):
        for statement in ast.parse(script.read_text(encoding="utf-8")).body:
            match statement:
                case ast.Import(names=names):
                    for one in names:
                        importlib.import_module(one.name)
                case ast.ImportFrom(module=str(name), names=names):
                    module = importlib.import_module(name)
                    for one in names:
                        if not hasattr(module, one.name):
                            importlib.import_module(f"{name}.{one.name}")


def _keep_to_the_times() -> None:
    """Deletes, at the start and once an hour, what has been kept for its time: an upload that nobody saved for a day."""
    while True:
        with _going_on():
            for home in homes():
                with _going_on(), contextlib.closing(Store(home)) as store:
                    enforce(store, rules())
        time.sleep(3_600)


@contextlib.contextmanager
def _going_on() -> Iterator[None]:
    """Whatever goes wrong is noted, and neither the next home nor the next time is left out for it."""
    try:
        yield
    except Exception as error:
        logging.getLogger(__name__).warning("What is past its time stays for now: %s", what_and_where(error))


MIDDLEWARE = [Middleware(Gate)]
