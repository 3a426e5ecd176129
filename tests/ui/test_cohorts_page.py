"""The page of cohorts, and the views of results that answer where the leak is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import streamlit as st
from large_audit import LEAD, write_large_audit
from streamlit.testing.v1 import AppTest

from mia_core.report.results import AuditResult, read_result
from mia_core.storage.store import Store
from mia_core.types import Gate
from mia_core.ui import charts, leak_charts
from tests.ui.test_pages import no_fault, words

Open = Callable[..., AppTest]
MOST_MARKS = 2_000


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A home with an audit that has every table."""
    home = tmp_path_factory.mktemp("large")
    store = Store(home)
    key = write_large_audit(store, users=900, attacks=[LEAD, "loss", "perplexity"])
    store.close()
    return home, key


@pytest.fixture
def whole(written: tuple[Path, str], open_page: Open, monkeypatch: pytest.MonkeyPatch) -> Iterator[AuditResult]:
    """That audit, on the server that `open_page` opens."""
    home, key = written
    monkeypatch.setenv("MIA_HOME", str(home))
    st.cache_resource.clear()
    st.cache_data.clear()
    store = Store(home)
    folder = store.find(key)
    assert folder is not None
    yield read_result(folder)
    store.close()


def tables(app: AppTest, column: str) -> list[pl.DataFrame]:
    return [pl.from_pandas(frame.value) for frame in app.dataframe if column in frame.value.columns]


def marks(app: AppTest) -> list[int]:
    """Rows that each chart is sent."""
    found = []
    for chart in app.get("vega_lite_chart"):
        parts = [part.data.data for part in chart.proto.datasets] + (
            [chart.proto.data.data] if chart.proto.data.data else []
        )
        found.append(sum(pl.read_ipc_stream(data).height for data in parts))
    return found


def test_cohorts_bins_and_the_most_exposed_are_shown(open_page: Open, whole: AuditResult) -> None:
    app = open_page("cohorts")
    no_fault(app)
    assert words(app).count("**Cohort ") == 4
    (cohorts,) = tables(app, "Cohort")
    assert cohorts["Cohort"].to_list() == [f"Cohort {i}" for i in range(1, 5)]
    judged = whole.roles["audited_member"]
    assert cohorts["Members"].sum() == judged
    (exposed,) = tables(app, "p-value")
    assert exposed["Score"].to_list() == sorted(exposed["Score"], reverse=True)
    assert "regression to the mean" in words(app)


def test_the_number_of_cohorts_stands_in_the_address(open_page: Open, whole: AuditResult) -> None:
    app = open_page("cohorts", audit=whole.key, cohorts="2")
    no_fault(app)
    assert words(app).count("**Cohort ") == 2
    app.segmented_control("alike").set_value("others").run()
    no_fault(app)
    assert "people as they were before" in words(app)
    app.slider("cohorts").set_value(6).run()
    assert words(app).count("**Cohort ") == 6


def test_users_with_a_rare_taste_leak_more_where_they_do(open_page: Open, whole: AuditResult) -> None:
    # The planted audit remembers rare tastes better.
    app = open_page("cohorts", audit=whole.key, by="Rarity of taste")
    no_fault(app)
    (bins,) = tables(app, "Rarity of taste")
    assert bins["AUC"][-1] > bins["AUC"][0]
    app.segmented_control("by").set_value("last").run()
    no_fault(app)
    assert tables(app, "Recency")


def test_an_audit_without_signals_and_times_says_so(open_page: Open, saved: AuditResult) -> None:
    app = open_page("cohorts", by="Recency")
    no_fault(app)
    assert "times of these users are not known" in words(app)


def test_cohorts_of_an_empty_store_say_what_to_do(open_page: Open) -> None:
    for page in ("cohorts", "users"):
        app = open_page(page)
        no_fault(app)
        assert "demo" in words(app)


def test_an_audit_that_failed_its_gates_says_so_first(
    open_page: Open, make_result: Callable[..., AuditResult], save_audit: Callable[[AuditResult], AuditResult]
) -> None:

    save_audit(
        dataclasses.replace(make_result(), gates=[Gate("blind", False, 0.9, 0.001, 140, "It failed.", "Mend it.")])
    )
    app = open_page("cohorts")
    no_fault(app)
    assert "not valid" in words(app)


@pytest.mark.parametrize(
    ("view", "said"),
    [
        ("Overview", "at what price in false accusations"),
        ("Attacks", "Do they find the same members?"),
        ("Threshold", "Called members"),
        ("Signals", "What the models show"),
        ("Training", "epoch 0 is before training"),
        ("Usefulness", "Does it recommend?"),
        ("Record", "How these figures came about"),
    ],
)
def test_a_view_of_results_is_opened_by_its_address_under_gates_and_headline(
    view: str, said: str, open_page: Open, whole: AuditResult
) -> None:
    app = open_page("results", audit=whole.key, view=view)
    no_fault(app)
    shown = words(app) + "\n".join(expander.label for expander in app.expander)
    assert said in shown
    assert "Given one member and one held-out user" in shown
    assert "gates passed" in shown
    assert all(count <= MOST_MARKS for count in marks(app))


def test_figures_and_list_move_with_the_threshold(open_page: Open, whole: AuditResult) -> None:
    app = open_page("results", audit=whole.key, view="Threshold")

    def told() -> tuple[float, int]:
        recall = next(metric.value for metric in app.metric if metric.label == "Recall")
        called = next(text.value for text in app.markdown if "Called members" in text.value)
        return float(recall.rstrip("%")), int(called.split(": ")[1].split()[0].replace(",", ""))

    assert "fixed on known users" in words(app)
    assert "exploration" not in words(app)
    recall, called = told()
    options = app.select_slider("threshold").options
    app.select_slider("threshold").set_value(options[-3]).run()
    no_fault(app)
    assert "exploration, not a claim" in words(app)
    assert told()[0] < recall
    assert told()[1] < called
    again = open_page("results", audit=whole.key, view="Threshold", threshold=options[-3])
    assert "exploration, not a claim" in words(again)


def test_differences_between_models_have_no_hidden_vectors(open_page: Open, whole: AuditResult) -> None:
    app = open_page("results", audit=whole.key, view="Signals")
    assert len(marks(app)) == 4
    app.segmented_control("model").set_value("target − base").run()
    no_fault(app)
    assert len(marks(app)) == 3
    assert "direction of its own" in words(app)
    app.toggle("calibration").set_value(True).run()
    no_fault(app)
    assert all("Calibration users" in table.columns for table in tables(app, "Members"))


def test_the_limit_of_what_can_be_resolved_is_marked_on_both_axes() -> None:
    points = pl.DataFrame(
        {
            "fpr": [0.0, 0.5, 1.0],
            "tpr": [0.1, 0.8, 1.0],
            "low": [0.0, 0.7, 1.0],
            "high": [0.2, 0.9, 1.0],
            "false_positives": [0, 150, 299],
        }
    )
    for logarithmic in (True, False):
        chart = charts.roc(points, logarithmic=logarithmic).to_dict()
        ends = [row["end"] for rows in chart["datasets"].values() for row in rows if "end" in row]
        # 299 held-out users resolve 1%.
        assert ends == [pytest.approx(0.01, abs=1e-4)]


def test_calibration_users_get_a_curve_and_a_dash_of_their_own() -> None:
    rng = np.random.default_rng(0)
    roles = ["audited_member", "known_held_out", "audited_held_out"]
    values = pl.DataFrame({"role": roles * 100, "value": rng.normal(size=300)})
    apart = charts.binned(values, calibration=True)
    assert set(apart["group"]) == {"Members", "Held-out users", "Calibration users"}
    for share in apart.group_by("group").agg(pl.col("share").sum())["share"]:
        assert share == pytest.approx(1.0)
    spec = str(charts.densities(values, "Loss", calibration=True).to_dict())
    assert "[[1, 0], [6, 4], [2, 3]]" in spec


def test_a_group_that_cannot_tell_keeps_its_place_without_a_dot() -> None:
    rows = pl.DataFrame(
        {
            "group": ["a", "b"],
            "auc": [0.7, None],
            "low": [0.6, None],
            "high": [0.8, None],
            "members": [50, 2],
            "held_out": [50, 3],
        }
    )
    spec = leak_charts.leak_by_group(rows, "Cohort").to_dict()
    assert "isValid(datum.auc)" in str(spec)
    assert {row["group"] for rows_ in spec["datasets"].values() for row in rows_ if "group" in row} == {"a", "b"}
