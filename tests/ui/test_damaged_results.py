"""A result that was damaged on the disk, as people meet it: in the browser and on the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from mia_core import __main__ as command_line
from mia_core.errors import NotFound
from mia_core.jobs.queue import Queue
from mia_core.report.lookup import find_audit
from mia_core.report.results import AuditResult
from mia_core.storage import integrity
from mia_core.storage.store import Store
from tests.storage.test_store import flip

Open = Callable[..., AppTest]


@pytest.fixture
def damaged(saved: AuditResult, store: Store, monkeypatch: pytest.MonkeyPatch) -> AuditResult:
    """A finished audit one bit of whose table of users has flipped since."""
    flip(store.home / "artifacts" / saved.key[:2] / saved.key / "users.parquet")
    monkeypatch.setattr(integrity, "_verified", {})
    return saved


def test_the_page_says_so_and_runs_it_again(
    open_page: Open, damaged: AuditResult, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mia_core.ui.frame.ensure_supervisor", lambda home: None)
    queue = Queue(store.home)
    job = queue.submit("audit", damaged.name, {"experiment": damaged.config})
    queue.claim()
    queue.finish(job.id, damaged.key)
    app = open_page("results", audit=damaged.key)
    assert not app.exception
    assert "damaged on the disk" in app.warning[0].value
    app.button(f"again_{damaged.key}").click().run()
    assert not app.exception
    (again,) = queue.active()
    assert again.payload == job.payload
    assert app.query_params["job"] == again.id


def test_whoever_does_without_it_is_told_of_it_no_more(open_page: Open, damaged: AuditResult, store: Store) -> None:
    app = open_page("results")
    app.button(f"without_{damaged.key}").click().run()
    assert not app.exception
    assert not app.warning
    assert store.losses() == []


def test_the_command_line_says_so_too(damaged: AuditResult, store: Store) -> None:
    for text in (damaged.key, damaged.key[:8], damaged.name):
        with pytest.raises(NotFound, match=r"damaged on the disk .* intermediates are kept"):
            find_audit(store, text)


def test_the_store_is_checked_and_repaired_by_a_command(
    damaged: AuditResult, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(*options: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["memberscope", "check-store", *options])
        with pytest.raises(SystemExit) as stopped:
            command_line.main()
        return int(stopped.value.code or 0), *capsys.readouterr()

    def sound(folder: Path) -> None:
        (folder / "text.txt").write_text("hello")

    store.build("c" * 64, "model", sound)
    code, out, err = check()
    assert code == 5
    assert f"Damaged: {damaged.key[:12]} (audit): users.parquet has other bytes than were written" in out
    assert "2 artifacts: 1 sound, 1 damaged" in out
    assert "--repair" in err
    assert check("--repair")[0] == 0
    assert check() == (0, "1 artifacts: 1 sound, 0 damaged.\n", "")
