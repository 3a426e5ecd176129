"""Erasing a person and reading the log in the browser; what is looked up and taken away there is in the log."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from mia_core import journal
from mia_core.jobs.queue import Queue
from mia_core.report.results import AuditResult
from mia_core.store import Store
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
    assert "1 result." in words(app)
    # Nothing goes before somebody says that they are sure.
    assert app.button("erase").disabled
    app.checkbox("erase_sure").check().run()
    app.button("erase").click().run()
    assert not app.exception
    assert "No trace is left" in words(app)
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


def test_somebody_unknown_and_work_under_way_are_told(open_page: Open, saved: AuditResult, store: Store) -> None:
    app = ask(open_page("erase"), "nobody-0000")
    assert "Nothing in this home folder names this person." in words(app)
    assert not [button for button in app.button if button.key == "erase"]
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
    assert "is no mark" in words(app)


def test_an_empty_log_leads_to_what_would_fill_it(open_page: Open) -> None:
    assert "Nothing was done here yet" in words(open_page("log"))


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


@pytest.mark.parametrize("page", ["erase", "log"])
def test_the_pages_are_in_the_navigation(open_page: Open, page: str) -> None:
    assert open_page(page).title[0].value
