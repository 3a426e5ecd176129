"""The page of defences: choose, launch, read what was found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from mia_core.experiment import Runtime, parse_experiment
from mia_core.jobs.queue import Queue
from mia_core.pipeline import run_audit
from mia_core.report.defending import DefenseResult
from mia_core.report.results import AuditResult
from mia_core.storage.store import Store
from mia_core.studies import study
from mia_core.studies.defending import parse_defending, run_defending

Open = Callable[..., AppTest]
QUICK = {"epochs": 2, "learning_rate": 5e-3}
TINY: dict[str, Any] = {
    "name": "My *audit*",
    "data": {"synthetic": {"users": 120, "items": 40, "mean_history": 14, "tastes": 3}},
    "prompt": {"history": 3, "windows": 2},
    "base": {"width": 16, "layers": 2, "vocabulary": 300, "pretraining": QUICK},
    "target": {"training": QUICK},
    "attacks": {"names": ["loss", "target_minus_base"], "lead": "target_minus_base"},
    "evaluation": {"resamples": 100, "ranked_users": 8, "negatives": 8, "placebo": False},
}


def words(app: AppTest) -> str:
    kinds = (app.title, app.subheader, app.markdown, app.text, app.caption, app.info, app.warning, app.error)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def no_fault(app: AppTest) -> None:
    assert not app.exception
    assert "fault of ours" not in words(app)


@pytest.fixture
def audited(store: Store) -> AuditResult:
    return run_audit(parse_experiment(TINY), store, runtime=Runtime(device="cpu", threads=1))


@pytest.fixture
def compared(store: Store, monkeypatch: pytest.MonkeyPatch) -> DefenseResult:
    monkeypatch.setattr(study, "spare_cores", lambda: 0)
    document = {
        "name": "What *helps*",
        "experiment": TINY,
        "tried": [
            {"title": "One [window]", "names": ["cap_records"]},
            {"title": "Warm", "names": ["temperature"]},
            {"title": "Private", "names": ["dp_sgd_user"], "settings": {"dp_sgd_user": {"epsilon": 4}}},
        ],
        "seeds": [0],
    }
    return run_defending(parse_defending(document), store, runtime=Runtime(device="cpu", threads=1))


def test_without_an_audit_it_leads_to_one(open_page: Open) -> None:
    app = open_page("defenses")
    no_fault(app)
    assert "Run one first" in words(app)


def test_defences_are_tried_on_a_finished_audit(open_page: Open, audited: AuditResult, store: Store) -> None:
    app = open_page("defenses", audit=audited.key)
    no_fault(app)
    assert "lora_dropout" in words(app)
    assert "audits**, likely" in words(app)
    app.slider("defense_seeds").set_value(2).run()
    app.button("launch_defenses").click().run()
    no_fault(app)
    (job,) = Queue(store.home).jobs()
    assert job.kind == "defend"
    document = parse_defending(job.payload["defending"])
    assert document.seeds == (0, 1)
    assert len(document.tried) >= 15
    assert document.experiment.data.source == "kept"


def test_a_finished_comparison_shows_what_to_do_and_every_figure(open_page: Open, compared: DefenseResult) -> None:
    app = open_page("defenses", defenses=compared.key)
    no_fault(app)
    assert "What to do" in words(app)
    assert "What private training promises" in words(app)
    # Titles are data of the user's config: shown as they are, never as Markdown.
    assert not any("[window]" in str(element.value) for element in app.markdown)
    for leak in ("exposed", "auc"):
        app.segmented_control("trade_leak").set_value(leak).run()
        no_fault(app)
    table = next(frame.value for frame in app.dataframe if "defence" in frame.value.columns)
    assert set(table["defence"]) == {"No defence", "One [window]", "Warm", "Private"}


def test_an_unknown_comparison_is_explained(open_page: Open) -> None:
    app = open_page("defenses", defenses="0" * 64)
    no_fault(app)
    assert "not in this store" in words(app)


def test_a_new_audit_can_have_defences_of_its_own(open_page: Open, store: Store) -> None:
    app = open_page("audit")
    app.multiselect("defenses_language").set_value(["dp_sgd_user"]).run()
    no_fault(app)
    app.number_input("defense.dp_sgd_user.epsilon").set_value(2.0).run()
    app.button("launch").click().run()
    no_fault(app)
    (job,) = Queue(store.home).jobs()
    assert job.payload["experiment"]["defense"] == {
        "names": ["dp_sgd_user"],
        "settings": {"dp_sgd_user": {"epsilon": 2.0}},
    }


def test_an_impossible_defence_is_refused_before_launch(open_page: Open, store: Store) -> None:
    app = open_page("audit")
    app.multiselect("defenses_language").set_value(["dp_sgd_user"]).run()
    app.number_input("defense.dp_sgd_user.epsilon").set_value(0.0).run()
    no_fault(app)
    assert "epsilon is 0" in words(app)
    assert not [button for button in app.button if button.key == "launch"]
    assert not Queue(store.home).jobs()


def test_results_of_a_defended_audit_say_so(open_page: Open, store: Store) -> None:
    document = {**TINY, "defense": {"names": ["dp_sgd_user"], "settings": {"dp_sgd_user": {"epsilon": 4}}}}
    result = run_audit(parse_experiment(document), store, runtime=Runtime(device="cpu", threads=1))
    app = open_page("results", audit=result.key)
    no_fault(app)
    assert "DP-SGD by user" in words(app)
    assert "promises ε ≤ 4" in words(app)
