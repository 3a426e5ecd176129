"""The pages Compare, Map and Running, through the router."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from mia_core.jobs.queue import Queue
from mia_core.report.results import AuditResult
from mia_core.storage.store import Store
from mia_core.types import Role

OpenPage = Callable[..., AppTest]
OTHER = "cd34" + "0" * 60


@pytest.fixture
def pair(saved: AuditResult, make_result: Callable[..., AuditResult], save_audit: Callable[..., AuditResult]) -> str:
    """Two audits of the same users; the address of both."""
    config = {**saved.config, "target": {**saved.config["target"], "tuning": "lora"}}
    save_audit(make_result(key=OTHER, name="[Another](http://example.org)", config=config))
    return f"{saved.key},{OTHER}"


def words(app: AppTest) -> str:
    return "\n".join(
        str(element.value) for kind in ("markdown", "caption", "info", "warning") for element in app.get(kind)
    )


def test_audits_are_compared_by_their_addresses(open_page: OpenPage, pair: str) -> None:
    app = open_page("compare", audits=pair)
    assert app.title[0].value == "Compare"
    assert "Audits 1 and 2 cannot be told apart by AUC" in words(app)
    tables = [frame.value for frame in app.dataframe]
    settings = next(table for table in tables if "Setting" in table.columns)
    assert settings.to_dict("list") == {"Setting": ["target.tuning"], "Audit 1": ["full"], "Audit 2": ["lora"]}
    # The other audit's name is a link in Markdown: it stands in tables alone.
    assert "example.org" not in words(app)


def test_an_unknown_address_and_a_single_audit_are_explained(open_page: OpenPage, saved: AuditResult) -> None:
    app = open_page("compare", audits=f"{saved.key},{'f' * 64}")
    assert "not in this store" in words(app)
    assert "Choose two audits or more" in words(app)


def test_attacks_that_did_not_run_in_both_are_not_offered(
    open_page: OpenPage, pair: str, make_result: Callable[..., AuditResult], save_audit: Callable[..., AuditResult]
) -> None:
    result = make_result(key="ef56" + "0" * 60)
    save_audit(make_result(key="ef56" + "0" * 60, attacks=[a for a in result.attacks if a.name == "loss"], lead="loss"))
    app = open_page("compare", audits=f"{pair},{'ef56' + '0' * 60}")
    assert app.selectbox(key="attack").options == ["Loss"]


@pytest.fixture
def mapped(saved: AuditResult, store: Store) -> AuditResult:
    rng = np.random.default_rng(0)
    rows = [
        {"user": f"{i}", "role": role, "drawn_from": drawn, "method": method, "epoch": epoch, "x": x, "y": y}
        for drawn, method, epoch in [
            *((drawn, method, None) for drawn in ("outputs", "correlation", "hidden") for method in ("t-SNE", "PCA")),
            ("hidden", "PCA", 0),
            ("hidden", "PCA", 6),
        ]
        for i, (x, y) in enumerate(rng.normal(size=(30, 2)).tolist())
        for role in [(Role.AUDITED_MEMBER, Role.AUDITED_HELD_OUT)[i % 2]]
    ]
    table = pl.DataFrame(rows, infer_schema_length=None)
    store.alter(saved.key, lambda folder: table.write_parquet(folder / "map.parquet"))
    return saved


def chart_of(app: AppTest) -> Any:
    return app.get("arrow_vega_lite_chart")[0]


def test_a_map_is_chosen_by_its_address(open_page: OpenPage, mapped: AuditResult) -> None:
    app = open_page("map", audit=mapped.key)
    assert "Only neighbourhoods mean something" in words(app)
    assert not app.get("select_slider")
    app = open_page(
        "map", audit=mapped.key, **{"from": "Its hidden vectors", "method": "Distances (PCA)", "epoch": "6"}
    )
    assert "distances mean something" in words(app)
    assert app.select_slider(key="epoch").value == "6"
    assert "Of 30 audited users" in words(app)


def test_an_audit_without_a_map_says_how_to_get_one(open_page: OpenPage, saved: AuditResult) -> None:
    assert "evaluation.map_users" in words(open_page("map", audit=saved.key))


def test_first_figures_of_a_running_audit_are_shown(open_page: OpenPage, store: Store) -> None:
    queue = Queue(store.home)
    job = queue.submit("audit", "<b>Audit</b> under way", {"experiment": {}})
    queue.claim()
    training = [
        {
            "epoch": e,
            "members": 3.0 - e,
            "held_out": 3.0,
            "auc": 0.6,
            "low": 0.5,
            "high": 0.7,
            "n_members": 9,
            "n_held_out": 8,
        }
        for e in (0, 1)
    ]
    scores = [{"attack": "Loss", "status": "honest", "auc": 0.6, "low": 0.5, "high": 0.7}]
    queue.tell(job.id, {"training": training, "scores": scores})
    app = open_page("running", job=job.id)
    assert "**The training so far**" in words(app)
    assert "**First scores**" in words(app)
    assert "9 members and 8 held-out users" in words(app)
    assert "<b>" not in words(app)
    app = open_page("running", job="unknown")
    assert "not known here" in words(app)


def test_all_work_is_listed_but_lookups(open_page: OpenPage, store: Store) -> None:
    queue = Queue(store.home)
    queue.submit("study", "A study", {"study": {}})
    queue.submit("lookup", "Somebody's lookup", {"audit": "a" * 64, "history": ["x"]})
    told = [element.value for element in open_page("running").text]
    assert "A study" in told
    assert "Somebody's lookup" not in told
