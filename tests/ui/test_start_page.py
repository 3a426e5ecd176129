"""The first page: three doors, what runs, what was done before; and the page on responsible use."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from mia_core import example
from mia_core.data_rights.removal import remove_audit
from mia_core.jobs.queue import Queue
from mia_core.report.base_rates import count_flagged
from mia_core.report.results import AuditResult
from mia_core.storage.store import Store
from tests.ui.test_pages import no_fault, words

Open = Callable[..., AppTest]


def links(app: AppTest) -> list[str]:
    return [link.proto.label for link in app.get("page_link")]


def test_a_first_visitor_sees_three_doors_a_picture_and_what_to_do(open_page: Open) -> None:
    app = open_page()
    no_fault(app)
    assert {"see_example", "audit_my_data", "look_up", "run_demo"} <= {button.key for button in app.button}
    assert "Nothing has been run here yet" in words(app)
    assert "times in 100" in words(app)
    (chart,) = app.get("vega_lite_chart")
    assert "Members" in chart.proto.spec


def test_the_example_is_one_click_and_every_page_on_a_person_works_on_it(open_page: Open, store: Store) -> None:
    app = open_page()
    app.button("see_example").click().run()
    no_fault(app)
    assert [title.value for title in app.title] == ["Results"]
    assert app.query_params["audit"] == example.audit_keys()[0]
    app = open_page()
    no_fault(app)
    names = [text.value for text in app.text]
    assert "Example: all weights fine-tuned" in names
    assert "Example: LoRA adapters" in names
    assert "Nothing has been run here yet" not in words(app)


def test_the_address_of_the_example_works_on_a_fresh_server(open_page: Open) -> None:
    app = open_page("lookup", audit=example.audit_keys()[1])
    no_fault(app)
    assert "not in this store" not in words(app)
    assert app.selectbox("chosen_audit").value == example.audit_keys()[1]


def test_an_example_that_was_removed_does_not_come_back_by_its_address(open_page: Open, store: Store) -> None:
    example.install(store)
    for key in example.audit_keys():
        remove_audit(store, key)
    app = open_page("lookup", audit=example.audit_keys()[0])
    no_fault(app)
    assert "does not come back by itself" in words(app)
    assert "To Start, where the example is opened" in links(app)
    assert "not in this store" not in words(app)
    assert store.entries("audit") == []


def test_of_the_examples_alone_the_one_that_start_opens_comes_first(open_page: Open, store: Store) -> None:
    first = example.install(store)
    assert open_page("lookup").selectbox("chosen_audit").value == first


def test_an_audit_says_in_the_choice_that_somebody_was_erased_from_it(
    open_page: Open, saved: AuditResult, save_audit: Callable[..., AuditResult]
) -> None:
    for persons, key in ((1, "1" * 64), (2, "2" * 64)):
        save_audit(dataclasses.replace(saved, key=key, erased=persons))
    marks = [
        label.partition(" · ")[0].removeprefix(saved.name)
        for label in open_page("lookup").selectbox("chosen_audit").options
    ]
    assert sorted(marks) == ["", " (2 persons erased since)", " (one person erased since)"]
    assert f"{saved.name} (one person erased since)" in [text.value for text in open_page().text]


def test_a_person_is_looked_up_in_the_newest_audit_else_in_the_example(open_page: Open, store: Store) -> None:
    app = open_page()
    app.button("look_up").click().run()
    no_fault(app)
    assert app.query_params["audit"] == example.audit_keys()[0]
    store.build("c" * 64, "audit", lambda folder: None, name="A [newer](http://x) one")
    app = open_page()
    assert "A [newer](http://x) one" in [text.value for text in app.text]
    assert app.query_params.get("audit") is None


def test_without_the_shipped_example_the_other_doors_stay_open(
    open_page: Open, saved: AuditResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example, "audit_keys", list)
    app = open_page()
    no_fault(app)
    assert app.button("see_example").disabled
    assert not app.button("look_up").disabled
    assert not app.get("vega_lite_chart")


def test_what_runs_and_what_stopped_is_shown_with_the_way_to_it(open_page: Open, store: Store) -> None:
    queue = Queue(store.home)
    for kind, name in (("study", "A study"), ("audit", "My audit"), ("lookup", "Lookup of a pasted history")):
        queue.submit(kind, name, {})
    running = queue.claim()
    assert running is not None
    queue.report(running.id, "Train", [], 0.4, 125.0)
    app = open_page()
    no_fault(app)
    shown = [text.value for text in app.text]
    assert "A study" in shown
    assert "My audit" in shown
    # A lookup is the business of whoever asked.
    assert not any("pasted" in text for text in shown)
    assert app.get("progress")[0].proto.value == 40
    assert links(app).count("Watch") == 2
    queue.fail(running.id, "it **broke**")
    app = open_page()
    assert links(app).count("Open") == 1
    no_fault(app)


def test_responsible_use_counts_the_base_rate_out(open_page: Open) -> None:
    app = open_page("responsible")
    no_fault(app)
    assert len(app.title) == 1
    # At 1% members, a TPR of 5% and an FPR of 1% a flag is right for 4.8% of the flagged.
    assert "Of the flagged, members 4.8%" in words(app)
    app.select_slider("share").set_value(0.5).run()
    no_fault(app)
    assert "Of the flagged, members 83.3%" in words(app)


def test_people_are_counted_whole() -> None:
    counted = count_flagged(1_000, 0.1, 0.5, 0.02)
    assert (counted.members, counted.flagged_members, counted.flagged_others, counted.flagged) == (100, 50, 18, 68)
    assert count_flagged(10, 0.001, 0.1, 0.001).share is None
