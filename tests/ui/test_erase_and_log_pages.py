"""Erasing a person and reading the log in the browser; what is looked up and taken away there is in the log."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from mia_core.data import library
from mia_core.data.interactions import validate
from mia_core.jobs.queue import Queue
from mia_core.report.results import AuditResult
from mia_core.storage import journal
from mia_core.storage.store import Store
from mia_core.ui import application
from tests.conftest import ODD_IDS

Open = Callable[..., AppTest]
USER = ODD_IDS[2]


def words(app: AppTest) -> str:
    kinds: tuple[Any, ...] = (app.markdown, app.text, app.caption, app.success, app.error, app.warning)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def ask(app: AppTest, user: str) -> AppTest:
    app.text_input("erased_user").set_value(user)
    return app.button[0].click().run()


def test_a_person_is_erased_and_no_page_shows_them_again(open_page: Open, saved: AuditResult, store: Store) -> None:
    app = ask(open_page("erase"), USER)
    assert f"1 audit ('{saved.name}')." in words(app)
    # No model rests on this person, so nobody is asked what becomes of them.
    assert [radio.key for radio in app.radio] == ["erase_audits"]
    # Nothing goes before somebody says that they are sure.
    assert app.button("erase").disabled
    app.checkbox("erase_sure").check().run()
    app.button("erase").click().run()
    assert not app.exception
    assert "No trace is left" in words(app)
    # What was rewritten is not called erased, and nobody is left in the field to be erased once more.
    assert (
        f"Rewritten in figures alone, without the person's rows, marked, and under a new key: 1 audit ('{saved.name}')."
        in (words(app))
    )
    assert "Erased: " not in words(app)
    assert app.text_input("erased_user").value == ""
    assert USER not in words(app)
    assert journal.read(store.home)[0].what == "erasure finished"
    assert USER not in (store.home / journal.LINES).read_text(encoding="utf-8")
    (left,) = store.entries("audit")
    shown = open_page("lookup", audit=left.key, user=USER)
    assert "Nothing was found." in words(shown)
    results = open_page("results", audit=left.key)
    assert "erased after this was computed" in words(results)
    others = open_page("lookup", audit=left.key, user=ODD_IDS[0])
    assert "The answer" in [header.value for header in others.subheader]


def test_a_data_set_is_rewritten_and_nothing_is_asked_that_does_not_matter(open_page: Open, store: Store) -> None:
    rows = [(user, item) for user in ("person-0001", "person-0002") for item in "abcde"]
    library.save(store, validate(pl.DataFrame(rows, schema=["user", "item"], orient="row")), "Shop of person-0001")
    app = ask(open_page("erase"), "person-0001")
    # The id is not said, though somebody put it into a name.
    assert "1 data set ('Shop of (erased)')." in words(app)
    assert len(app.radio) == 0
    app.checkbox("erase_sure").check().run()
    app.button("erase").click().run()
    assert "Rewritten without the person, under a new key: 1 data set ('Shop of (erased)')." in words(app)
    assert "Erased: " not in words(app)


def test_somebody_unknown_and_work_under_way_are_told(open_page: Open, saved: AuditResult, store: Store) -> None:
    app = ask(open_page("erase"), "nobody-0000")
    assert "Nothing in this home folder names this person." in words(app)
    assert not [button for button in app.button if button.key == "erase"]
    for user in ("", "  "):
        assert "the user id is empty" in words(ask(app, user))
    # It is asked for just as it is typed.
    assert "begins or ends with a blank" in words(ask(app, f" {USER}"))
    Queue(store.home).submit("audit", "Waits", {})
    app = ask(app, USER)
    app.checkbox("erase_sure").check().run()
    app.button("erase").click().run()
    assert "something is running or waiting" in words(app)
    assert store.find(saved.key) is not None


def test_the_way_from_a_users_page_does_not_put_the_id_into_the_address(open_page: Open, saved: AuditResult) -> None:
    app = open_page("users", audit=saved.key, user=USER)
    app.button("to_erase").click().run()
    assert app.text_input("erased_user").value == USER
    assert USER not in str(app.query_params)


def test_the_log_shows_who_looked_up_whom_without_their_ids_and_is_checked(
    open_page: Open, saved: AuditResult, store: Store
) -> None:
    app = open_page("lookup", audit=saved.key, user=USER)
    app.run()
    looked_up = [event for event in journal.read(store.home) if event.what == "looked up"]
    assert [event.about for event in looked_up] == [{"audit": saved.key, "person": journal.person(store.home, USER)}]
    app = open_page("log")
    table = app.dataframe[0].value
    assert table["What"].to_list() == ["looked up"]
    assert USER not in table.to_csv()
    app.button("check_log").click().run()
    assert "Intact: 1 lines" in app.success[0].value
    lines = store.home / journal.LINES
    changed = {**json.loads(lines.read_bytes()), "who": "somebody else"}
    lines.write_text(json.dumps(changed) + "\n")
    app.button("check_log").click().run()
    assert "not as it was written" in app.error[0].value
    assert "Line 1 was changed" in words(app)
    app.text_input("noted").set_value("latest").run()
    app.button("check_log").click().run()
    # It says what one looks like, and where on this page one is shown.
    assert f"such as {journal.EXAMPLE_MARK}" in words(app)
    assert "'Check every line'" in words(app)


def test_a_line_of_the_log_can_be_read_whole(open_page: Open, store: Store) -> None:
    keys = [f"{i:x}" * 64 for i in range(10, 15)]
    journal.note(store.home, "erasure finished", kept=keys, searched_files=1234, traces=0)
    journal.note(store.home, "example opened", key=keys[0])

    def line(app: AppTest) -> str:
        return next(block.proto.body for block in app.get("html") if "<dl" in block.proto.body)

    app = open_page("log")
    assert "Line 2" in [header.value for header in app.subheader]
    assert "Example opened" in line(app)
    app.session_state["lines_"] = {"selection": {"rows": [1], "columns": [], "cells": []}}
    app.run()
    assert not app.exception
    assert "<dt>Searched files</dt><dd>1234</dd>" in line(app)
    assert "<dt>Traces</dt><dd>0</dd>" in line(app)
    assert all(key[:12] in line(app) for key in keys)
    app.multiselect("events").set_value(["example opened"]).run()
    assert "Example opened" in line(app)


def test_an_empty_log_leads_to_what_would_fill_it(open_page: Open) -> None:
    app = open_page("log")
    assert "Nothing was done here yet" in words(app)
    assert "demo" not in words(app)


def test_a_log_that_was_taken_away_is_noticed_on_the_page(open_page: Open, store: Store) -> None:
    journal.note(store.home, "looked up")
    (store.home / journal.LINES).unlink()
    app = open_page("log")
    app.button("check_log").click().run()
    assert "not as it was written" in app.error[0].value


def test_whom_the_page_was_asked_about_before_is_not_who_it_erases(open_page: Open, saved: AuditResult) -> None:
    app = ask(open_page("erase"), ODD_IDS[0])
    assert "What there is" in [header.value for header in app.subheader]
    app.checkbox("erase_sure").check().run()
    assert app.button("erase").disabled is False
    assert ask(app, ODD_IDS[1]).button("erase").disabled
    # As a page of this user leads here.
    app.session_state["erase_user"] = USER
    app.run()
    assert app.text_input("erased_user").value == USER
    assert "What there is" not in [header.value for header in app.subheader]


def test_deleting_an_audit_is_noted(open_page: Open, saved: AuditResult, store: Store) -> None:
    app = open_page("results", audit=saved.key, view="Record")
    app.button("delete_audit").click().run()
    assert journal.read(store.home)[0].what == "audit deleted"


def test_an_audit_is_kept_with_pseudonyms(open_page: Open, saved: AuditResult, store: Store) -> None:
    app = open_page("results", audit=saved.key, view="Record")
    app.button("pseudonymise").click().run()
    assert not app.exception
    (left,) = store.entries("audit")
    assert app.query_params["audit"] in ([left.key], left.key)
    assert not [button for button in app.button if button.key == "pseudonymise"]
    found = open_page("lookup", audit=left.key, user=USER)
    assert "The answer" in [header.value for header in found.subheader]


def test_what_is_past_its_time_goes_from_the_next_home_and_on_the_next_day_whatever_went_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rounds = iter([PermissionError(USER), None])
    kept: list[str] = []

    def homes() -> list[Path]:
        if fault := next(rounds):
            raise fault
        return [tmp_path / "damaged", tmp_path / "sound"]

    def enforce(store: Store, rules: object) -> None:
        if store.home.name == "damaged":
            raise sqlite3.OperationalError(USER)
        kept.append(store.home.name)

    def sleep(seconds: float) -> None:
        if kept:
            raise InterruptedError

    monkeypatch.setattr(application, "homes", homes)
    monkeypatch.setattr(application, "enforce", enforce)
    monkeypatch.setattr(application.time, "sleep", sleep)
    with pytest.raises(InterruptedError):
        application._keep_to_the_times()
    assert kept == ["sound"]
    assert "PermissionError at" in caplog.text
    assert "OperationalError at" in caplog.text
    assert USER not in caplog.text


@pytest.mark.parametrize("page", ["erase", "log"])
def test_the_pages_are_in_the_navigation(open_page: Open, page: str) -> None:
    assert open_page(page).title[0].value
