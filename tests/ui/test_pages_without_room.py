"""Pages on a disk that is full or read-only: what was finished is shown, what needs room says so."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from mia_core.jobs.queue import Queue
from mia_core.report.results import AuditResult
from mia_core.storage import journal
from mia_core.storage.store import Store
from mia_core.ui import frame, sign_in
from mia_core.ui.frame import PAGES
from tests.small_disk import fill, make_read_only, small_disk

Open = Callable[..., AppTest]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store on a disk of its own."""
    with small_disk(tmp_path, 4 * 2**20) as disk:
        monkeypatch.setenv("MIA_HOME", str(disk / "home"))
        opened = Store(disk / "home")
        yield opened
        opened.close()


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [fill, make_read_only])
def test_every_page_shows_what_is_there(
    spoil: Callable[[Path], object], open_page: Open, saved: AuditResult, store: Store
) -> None:
    Queue(store.home)
    store.close()
    spoil(store.home.parent)
    for page in PAGES:
        app = open_page(
            page, **({"audit": saved.key} if page in ("results", "users", "lookup", "map", "report") else {})
        )
        shown = "\n".join(str(part.value) for kind in (app.text, app.error, app.markdown) for part in kind)
        assert not app.exception, page
        assert "fault of ours" not in shown, page
        assert "Traceback" not in shown, page
        if page in ("results", "users"):
            assert not app.error, page


@pytest.mark.parametrize(("spoil", "told"), [(fill, "is full"), (make_read_only, "cannot be written")])
def test_results_are_shown_and_what_needs_room_says_so(
    spoil: Callable[[Path], object], told: str, open_page: Open, saved: AuditResult, store: Store
) -> None:
    queue = Queue(store.home)
    job = queue.submit("audit", "Waiting", {"experiment": dataclasses.asdict(saved)["config"]})
    store.close()
    spoil(store.home.parent)
    for page, query in (("running", {"job": job.id}), ("results", {"audit": saved.key})):
        app = open_page(page, **query)
        assert not app.exception
        assert not app.error
    assert app.metric
    app = open_page("audit")
    app.button("launch").click().run()
    assert not app.exception
    assert any(told in text.value for text in app.text)


@pytest.mark.parametrize(("spoil", "told"), [(fill, "is full"), (make_read_only, "cannot be written")])
def test_whoever_signs_in_sees_what_is_there_too(
    spoil: Callable[[Path], object],
    told: str,
    open_page: Open,
    saved: AuditResult,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That a session was opened cannot be noted: it is said, and the page is drawn."""
    signed_in = SimpleNamespace(is_logged_in=True, get={"name": "Ada"}.get)
    monkeypatch.setattr(st, "user", signed_in)
    monkeypatch.setattr(sign_in, "providers", lambda: {"": "your organisation"})
    for module in (sign_in, frame):
        monkeypatch.setattr(module, "home", lambda: store.home)
    journal.note(store.home, "session opened")
    store.close()
    spoil(store.home.parent)
    app = open_page("results", audit=saved.key)
    assert not app.exception
    assert any(told in text.value for text in app.text)
    assert app.metric
