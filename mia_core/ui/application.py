"""The web application around the router: a gate before it, a clean log, and a supervisor for background jobs."""

from __future__ import annotations

import ast
import contextlib
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
from mia_core.report.vector_charts import draw_once
from mia_core.retention import enforce, rules
from mia_core.seal import SealingKey
from mia_core.store import Store, home_folder, homes
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
    """Runs the import statements of the router and of every page, before anybody asks for one.

    Each view of a page runs in a thread of its own. Two threads that import the same packages at once, from different ends,
    can meet a module that is half loaded: one of the pages fails.
    """
    for script in (ROUTER, *sorted(PAGES.glob("*.py"))):
        statements = ast.parse(script.read_text(encoding="utf-8")).body
        imports: list[ast.stmt] = [one for one in statements if isinstance(one, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), str(script), "exec"), {})  # noqa: S102 - our own files


def _keep_to_the_times() -> None:
    """Deletes, at the start and once a day, what has been kept for its time."""
    while True:
        for home in homes():
            try:
                with contextlib.closing(Store(home)) as store:
                    enforce(store, rules())
            except (MemberScopeError, OSError) as error:
                logging.getLogger(__name__).warning("What is past its time stays for now: %s", type(error).__name__)
        time.sleep(86_400)


MIDDLEWARE = [Middleware(Gate)]
