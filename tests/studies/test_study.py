"""Studies of tiny audits: what is varied and shown, resuming, failing points, seeds."""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

from mia_core.errors import ConfigError
from mia_core.experiment import Experiment, parse_experiment
from mia_core.jobs.progress import JobProgress
from mia_core.jobs.queue import Queue
from mia_core.jobs.run_job import KINDS
from mia_core.pipeline import run_audit
from mia_core.report.repeats import Repeats, find_repeats
from mia_core.report.results import AuditResult, read_result
from mia_core.report.studies import (
    STUDY_TABLES,
    StudyResult,
    modality_sentences,
    points_by_study,
    read_study_table,
    study_document,
)
from mia_core.storage.store import Store
from mia_core.studies import study as studies
from mia_core.studies.study import Study, load_study, parse_study, presets, repetition, run_study, to_toml
from mia_core.types import StagePlan

QUICK = {"epochs": 1, "learning_rate": 5e-3}
TINY: dict[str, Any] = {
    "data": {"synthetic": {"users": 120, "items": 40, "mean_history": 14, "tastes": 3}},
    "prompt": {"history": 3, "windows": 2},
    "base": {"width": 16, "layers": 2, "vocabulary": 300, "pretraining": QUICK},
    "target": {"training": {"epochs": 4, "learning_rate": 5e-3}},
    "attacks": {"names": ["loss", "target_minus_base"], "lead": "loss"},
    "evaluation": {"resamples": 100, "ranked_users": 4, "negatives": 8, "placebo": False},
}


class Told:
    """A Progress that remembers."""

    def __init__(self) -> None:
        self.planned: list[str] = []
        self.cached: dict[str, bool] = {}

    def plan(self, stages: list[StagePlan]) -> None:
        self.planned = [stage.name for stage in stages]

    def start(self, stage: str) -> None:
        self.cached[stage] = False

    def advance(self, fraction: float) -> None:
        assert 0 <= fraction <= 1

    def finish(self, stage: str, cached: bool) -> None:
        self.cached[stage] = cached


def tiny(vary: dict[str, Any], **changes: Any) -> Study:
    return parse_study({"name": "Tiny", "vary": vary, "experiment": TINY, **changes})


def table(result: StudyResult, store: Store, name: str) -> pl.DataFrame:
    folder = store.find(result.key)
    assert folder is not None
    return read_study_table(folder, name)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Audits run in this process, where a process of its own would only cost its start."""
    monkeypatch.setattr(studies, "spare_cores", lambda: 0)


@pytest.mark.usefixtures("in_process")
def test_more_epochs_leak_more_and_a_second_run_touches_nothing(shared: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    study = tiny({"target.training.epochs": [1, 25]}, titles={"target.training.epochs": "epochs"})
    result = run_study(study, shared)
    figures = table(result, shared, "figures")
    auc = figures.filter(attack="loss", metric="auc").sort("target.training.epochs")
    assert auc["target.training.epochs"].to_list() == [1, 25]
    assert auc["value"][1] > auc["value"][0] + 0.1
    for audit, value in auc.select("audit", "value").iter_rows():
        folder = shared.find(audit)
        assert folder is not None
        metric = read_result(folder).metric("loss", "auc")
        assert metric is not None
        assert metric.value == value
    gap = figures.filter(metric="loss_gap").sort("target.training.epochs")["value"]
    assert gap[1] > gap[0]
    losses = {row["metric"]: row["value"] for row in figures.filter(point=1).to_dicts() if not row["attack"]}
    assert losses["held_out_loss"] - losses["member_loss"] == pytest.approx(losses["loss_gap"])
    assert 0 < losses["hit_rate_at_10"] <= 1
    assert losses["density"] == pytest.approx(losses["mean_history"] / losses["items"])

    def forbidden(*_: object) -> str:
        raise AssertionError("nothing is left to do")

    monkeypatch.setattr(studies, "_run_point", forbidden)
    before = {entry.key for entry in shared.entries()}
    told = Told()
    assert run_study(study, shared, told) == result
    assert {entry.key for entry in shared.entries()} == before
    assert told.cached["epochs 1"]
    assert told.cached["epochs 25"]


@pytest.mark.usefixtures("in_process")
def test_a_point_that_fails_is_recorded_and_the_others_go_on(shared: Store) -> None:
    result = run_study(tiny({"prompt.history": [3, 100]}, attacks=["loss"]), shared)
    (failure,) = result.failures
    assert failure.point == "prompt history 100"
    assert "choose a shorter history" in failure.reason
    figures = table(result, shared, "figures")
    assert set(figures["prompt.history"]) == {3}
    assert set(figures["attack"]) == {"loss", ""}
    with pytest.raises(ConfigError, match="none of the 1 audits"):
        run_study(tiny({"prompt.history": [100]}), shared)


@pytest.mark.usefixtures("in_process")
def test_a_faulty_audit_does_not_stop_the_study_and_its_message_stays_out(
    shared: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mia_core import pipeline

    real = pipeline.run_audit

    def broken(experiment: Experiment, *rest: Any) -> Any:
        if experiment.prompt.windows == 1:
            raise ValueError("Ana watched Solaris")
        return real(experiment, *rest)

    monkeypatch.setattr(pipeline, "run_audit", broken)
    result = run_study(tiny({"prompt.windows": [1, 2]}), shared)
    assert [failure.point for failure in result.failures] == ["prompt windows 1"]
    assert "Solaris" not in str(result)
    monkeypatch.undo()
    monkeypatch.setattr(studies, "spare_cores", lambda: 0)
    again = run_study(tiny({"prompt.windows": [1, 2]}), shared)
    assert again.failures == []
    assert again.key != result.key


@pytest.mark.slow
def test_seeds_beside_a_setting_give_the_spread_between_them_also_on_several_cores(
    shared: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies, "spare_cores", lambda: 1)
    told = Told()
    result = run_study(tiny({"target.training.epochs": [2], "seed": [0, 1]}), shared, told)
    assert result.failures == []
    assert told.planned[1:3] == ["target training epochs 2, seed 0", "target training epochs 2, seed 1"]
    values = table(result, shared, "figures").filter(attack="loss", metric="auc")["value"]
    row = table(result, shared, "spread").filter(attack="loss", metric="auc").to_dicts()[0]
    assert row["seeds"] == 2
    assert row["target.training.epochs"] == 2
    assert (row["lowest"], row["highest"]) == (values.min(), values.max())
    assert row["standard_deviation"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)


@pytest.mark.usefixtures("in_process")
@pytest.mark.slow
def test_a_killed_process_of_a_study_costs_none_of_its_audits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "spare_cores", lambda: 1)
    killed: list[int] = []

    def kill_one() -> None:
        while not killed:
            for process in multiprocessing.active_children():
                # Once it works: it has opened the store.
                if process.pid and psutil.Process(process.pid).memory_info().rss > 2**28:
                    process.kill()
                    killed.append(process.pid)
            time.sleep(0.05)

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    result = run_study(tiny({"target.training.epochs": [1, 2, 3]}), Store(tmp_path))
    assert killed
    assert result.failures == []
    assert set(table(result, Store(tmp_path), "figures")["target.training.epochs"]) == {1, 2, 3}


def test_the_spread_of_features_is_tested_apart_for_members_and_held_out_users(shared: Store) -> None:
    result = run_study(tiny({"target.training.epochs": [1]}), shared)
    modality = table(result, shared, "modality")
    assert set(modality["model"]) == {"target", "base"}
    assert set(modality["feature"]) == {"loss", "confidence", "entropy", "hidden"}
    assert set(modality["group"]) == {"members", "held-out users"}
    assert modality["dip"].is_between(0, 0.25).all()
    assert modality["p_value"].is_between(0, 1).all()
    (sentence,) = modality_sentences(modality)
    assert sentence.startswith("T5: ")
    assert "of 16 distributions" in sentence
    document = study_document(result, {name: table(result, shared, name) for name in STUDY_TABLES})
    assert json.loads(json.dumps(document, allow_nan=False))["modality"][0]["n"] > 20


@pytest.mark.usefixtures("in_process")
def test_a_background_job_runs_a_study_and_shows_each_of_its_audits(shared: Store) -> None:
    study, queue = tiny({"target.training.epochs": [1]}), Queue(shared.home)
    job = queue.submit("study", study.name, {"study": study.model_dump(mode="json"), "runtime": {"device": "cpu"}})
    key = KINDS[job.kind](job.payload, shared, JobProgress(queue, job.id))
    assert key == run_study(study, shared).key
    stages = queue.get(job.id).stages
    assert [stage["name"] for stage in stages] == [studies.OPEN, "target training epochs 1", studies.GATHER]
    assert {stage["state"] for stage in stages} <= {"done", "cached"}


def listed(store: Store, kind: str) -> set[str]:
    return {entry.key for entry in store.entries(kind)}


@pytest.mark.usefixtures("in_process")
def test_an_audit_is_repeated_with_more_seeds_and_itself_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    audit = run_audit(parse_experiment({**TINY, "name": "Mine", "seed": 1}), store)
    assert listed(store, "point") == set()
    again = repetition(audit, find_repeats(store, audit))
    assert again.vary == {"seed": (1, 0, 2)}
    told = Told()
    study = run_study(again, store, told)
    assert (told.cached["seed 1"], told.cached["seed 0"]) == (True, False)
    # The audit itself stays one; the runs for the study alone are its points.
    assert listed(store, "audit") == {audit.key}
    assert len(listed(store, "point")) == 2
    assert points_by_study(store) == {"the study Mine: other seeds": 2}

    found = find_repeats(store, audit)
    assert found.seeds == (1, 0, 2)
    row = table(study, store, "spread").filter(metric="auc").to_dicts()[0]
    auc = found.spread["auc"]
    assert (auc.lowest, auc.highest) == (row["lowest"], row["highest"])
    assert auc.standard_deviation == pytest.approx(row["standard_deviation"])
    assert repetition(audit, found).vary == {"seed": (0, 1, 2, 3, 4)}

    wanted = run_audit(parse_experiment({**TINY, "name": "Wanted for itself", "seed": 2}), store)
    assert wanted.name == wanted.config["name"] == "Wanted for itself"
    assert wanted.key in listed(store, "audit")
    run_study(again, store)
    assert len(listed(store, "point")) == 1


def test_a_file_is_repeated_on_what_it_held_and_a_random_share_of_it_is_drawn_anew(
    make_result: Callable[..., AuditResult],
) -> None:
    plain = make_result()
    data = {"source": "file", "path": "/gone.csv"}
    for thin, expected in (({"longest_history": 9}, "kept"), ({"keep_users": 0.5}, "file")):
        config = parse_experiment({**plain.config, "data": {**data, "thin": thin}}).model_dump(mode="json")
        audit = make_result(config=config)
        study = repetition(audit, Repeats((0,), (1,), {}, redrawn=expected == "file"))
        assert study.vary == {"seed": (0, 1, 2, 3)}
        assert study.experiment.data.source == expected
        # What is kept was thinned already.
        assert study.experiment.data.thin.model_dump(exclude_none=True) == (thin if expected == "file" else {})
        assert study.experiment.data.key == ("" if expected == "file" else plain.data["key"])


def test_a_study_that_was_stopped_is_told_apart_from_finished_ones(
    store: Store, make_result: Callable[..., AuditResult], save_audit: Callable[..., AuditResult]
) -> None:
    assert points_by_study(store) == {}
    save_audit(make_result(), "point")
    assert points_by_study(store) == {"studies that are not finished": 1}


def test_values_may_be_groups_of_settings_and_labels_stand_for_them() -> None:
    study = tiny(
        {
            "base": [{"width": 16}, {"width": 32, "layers": 4}],
            "distillation.student": [{"family": "gpt2"}],
        },
        labels={"base": ["small", "large"]},
    )
    assert [point.words for point in study.points] == [
        "base small, distillation student family gpt2",
        "base large, distillation student family gpt2",
    ]
    large = study.points[1].experiment
    assert (large.base.width, large.base.layers, large.base.vocabulary) == (32, 4, 300)
    student = large.distillation.student
    assert student is not None
    # What is not said of the student is as in this point's base.
    assert (student.family, student.width, student.vocabulary) == ("gpt2", 32, 300)


def test_settings_of_attacks_are_varied_too() -> None:
    points = tiny({"attacks.settings": [{}, {"min_k": {"share": 0.5}}]}).points
    assert [point.experiment.attacks.settings for point in points] == [{}, {"min_k": {"share": 0.5}}]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"vary": {"target.training.epoch": [1]}}, "target.training.epochs"),
        ({"vary": {"distillation.alpha": [0.5, 2.0]}}, "distillation.alpha is 2.0"),
        ({"vary": {"seed.x": [1]}}, "not a section"),
        ({"vary": {}}, "vary"),
        ({"vary": {"seed": []}}, "vary.seed"),
        ({"vary": {"seed": [0], "prompt.history": [3], "prompt.windows": [1]}}, "vary"),
        ({"vary": {"seed": list(range(201))}}, "201 audits"),
        ({"vary": {"seed": [0]}, "metrics": ["auk"]}, "auk"),
        ({"vary": {"seed": [0]}, "attacks": ["rmia"]}, "rmia"),
        ({"vary": {"seed": [0]}, "labels": {"seed": ["a", "b"]}}, "as many"),
        ({"vary": {"seed": [0]}, "metric": ["auc"]}, "metrics"),
    ],
)
def test_what_cannot_be_varied_is_said_before_anything_runs(document: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_study({**document, "experiment": TINY})


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_a_study_and_survives_being_written_down(name: str, tmp_path: Path) -> None:
    study = load_study(name)
    assert study.summary.endswith((".", "?"))
    assert study.points
    path = tmp_path / "study.toml"
    path.write_text(to_toml(study), encoding="utf-8")
    assert load_study(str(path)) == study


def test_the_studies_of_the_literature_are_there() -> None:
    assert {
        "alpha",
        "symmetric_against_two_phase",
        "upsampling_against_raw",
        "features",
        "families",
        "sizes",
        "prefix_length",
        "epochs",
        "prompt_styles",
        "windows",
        "unlabelled_data",
        "density",
        "history_length",
        "users",
        "factors",
        "learning_rate",
        "shadow_kinds",
        "sequence_epochs",
    } == set(presets())
    assert [point.shown for point in load_study("alpha").points] == [(i / 10,) for i in range(11)]


def test_overrides_reach_the_audit_and_what_is_varied(tmp_path: Path) -> None:
    study = load_study("alpha", ["base.family=gpt2", "vary.distillation.alpha=[0.5]", "vary.seed=[1, 2]"])
    assert {point.experiment.base.family for point in study.points} == {"gpt2"}
    assert [point.shown for point in study.points] == [(0.5, 1), (0.5, 2)]
    with pytest.raises(ConfigError, match="did you mean 'alpha'"):
        load_study("alhpa")
    (tmp_path / "bad.toml").write_text("vary = [")
    with pytest.raises(ConfigError, match="not a TOML file"):
        load_study(str(tmp_path / "bad.toml"))
