"""The page of studies: set up, launch, watch, read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from mia_core.jobs.queue import Queue
from mia_core.report.studies import StudyResult
from mia_core.storage.store import Store
from mia_core.studies import study as studies
from mia_core.studies.study import parse_study, presets, run_study

Open = Callable[..., AppTest]
QUICK = {"epochs": 1, "learning_rate": 5e-3}
TINY: dict[str, Any] = {
    "data": {"synthetic": {"users": 120, "items": 40, "mean_history": 14, "tastes": 3}},
    "prompt": {"history": 3, "windows": 2},
    "base": {"width": 16, "layers": 2, "vocabulary": 300, "pretraining": QUICK},
    "target": {"training": QUICK},
    "attacks": {"names": ["loss", "target_minus_base"], "lead": "loss"},
    "evaluation": {"resamples": 100, "ranked_users": 4, "negatives": 8, "placebo": False},
}


def words(app: AppTest) -> str:
    kinds = (app.title, app.subheader, app.markdown, app.text, app.caption, app.info, app.warning, app.error)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def no_fault(app: AppTest) -> None:
    assert not app.exception
    assert "fault of ours" not in words(app)


@pytest.fixture
def finished(store: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[..., StudyResult]:
    monkeypatch.setattr(studies, "spare_cores", lambda: 0)

    def run(vary: dict[str, Any], name: str = "My *study*") -> StudyResult:
        return run_study(parse_study({"name": name, "vary": vary, "experiment": TINY}), store)

    return run


@pytest.mark.parametrize("preset", ["sequence_epochs", "factors", "shadow_kinds"])
def test_studies_of_other_recommenders_are_launched_too(preset: str, open_page: Open, store: Store) -> None:
    app = open_page("studies")
    app.selectbox("study_preset").select(preset).run()
    no_fault(app)
    app.button("launch_study").click().run()
    no_fault(app)
    (job,) = Queue(store.home).jobs()
    study = parse_study(job.payload["study"])
    assert study.experiment.kind == ("sequence" if preset == "sequence_epochs" else "recommender")


def test_a_prepared_study_is_launched_as_a_background_job(open_page: Open, store: Store) -> None:
    app = open_page("studies")
    no_fault(app)
    preset = app.selectbox("study_preset")
    assert len(preset.options) == len(presets())
    preset.select("epochs").run()
    assert "6 audits" in words(app)
    app.number_input("study_users").set_value(90).run()
    app.button("launch_study").click().run()
    no_fault(app)
    (job,) = Queue(store.home).jobs()
    assert (job.kind, job.name) == ("study", "Epochs against leakage")
    study = parse_study(job.payload["study"])
    assert study.experiment.data.synthetic.users == 90
    assert list(study.vary["target.training.epochs"]) == [1, 2, 4, 6, 10, 16]
    assert app.query_params["job"] == job.id


def test_any_setting_can_be_varied_and_crossed(open_page: Open, store: Store) -> None:
    app = open_page("studies")
    app.segmented_control("study_way").set_value("own").run()
    app.selectbox("vary_0").select("prompt.windows").run()
    app.text_input("values_0").input("1, 2").run()
    app.selectbox("vary_1").select("base.family").run()
    app.text_input("values_1").input("t5, gpt2").run()
    no_fault(app)
    assert "4 audits" in words(app)
    app.text_input("values_0").input("1, -2").run()
    no_fault(app)
    assert "prompt.windows is -2" in words(app)


def test_a_finished_study_is_read_by_its_address(open_page: Open, finished: Callable[..., StudyResult]) -> None:
    result = finished({"prompt.windows": [1, 2]})
    app = open_page("studies", study=result.key)
    no_fault(app)
    assert "My *study*" in [text.value for text in app.text]
    assert len(app.get("arrow_vega_lite_chart") or app.get("vega_lite_chart")) == 2
    table = next(frame.value for frame in app.dataframe if "figure" in frame.value.columns)
    assert set(table["prompt windows"]) == {1, 2}
    app.segmented_control("study_metric").set_value("tpr_at_fpr_0.05").run()
    no_fault(app)
    assert "cannot resolve" in words(app)


def test_two_settings_are_a_heat_map_and_failures_are_named(
    open_page: Open, finished: Callable[..., StudyResult]
) -> None:
    result = finished({"prompt.windows": [1, 2], "prompt.history": [3, 100]})
    app = open_page("studies", study=result.key)
    no_fault(app)
    assert "2 of 4 audits could not be run" in words(app)
    assert any("choose a shorter history" in text.value for text in app.text)
    assert app.selectbox("study_attack").value == "loss"


def test_seeds_crossed_with_a_setting_show_the_range_over_seeds(
    open_page: Open, finished: Callable[..., StudyResult]
) -> None:
    result = finished({"prompt.windows": [2], "seed": [0, 1]})
    app = open_page("studies", study=result.key)
    no_fault(app)
    assert "Between seeds" in words(app)
    assert "mean over seeds" in words(app)


def test_the_job_of_a_finished_study_leads_to_it(
    open_page: Open, store: Store, finished: Callable[..., StudyResult]
) -> None:
    result = finished({"prompt.windows": [2]})
    queue = Queue(store.home)
    job = queue.submit("study", "My study", {})
    queue.claim()
    queue.finish(job.id, result.key)
    app = open_page("studies", job=job.id)
    no_fault(app)
    assert "Every figure" in words(app)
    assert open_page("studies").query_params == {}


def test_a_study_that_is_gone_and_one_that_failed_are_explained(open_page: Open, store: Store) -> None:
    app = open_page("studies", study="f" * 64)
    no_fault(app)
    assert "not in this store" in words(app)
    queue = Queue(store.home)
    job = queue.submit("study", "My study", {})
    queue.claim()
    queue.fail(job.id, "the disk is full")
    app = open_page("studies", job=job.id)
    no_fault(app)
    assert "This study stopped" in words(app)
