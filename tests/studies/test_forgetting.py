"""Whole checks whether tiny real models have forgotten: planted failures are called out, training anew passes."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mia_core import __main__ as command_line
from mia_core.data_rights.removal import remove_forgetting
from mia_core.errors import ConfigError, DataError, Stopped
from mia_core.experiment import Runtime, parse_experiment, to_toml
from mia_core.jobs.progress import JobProgress
from mia_core.jobs.queue import Queue
from mia_core.jobs.run_job import KINDS
from mia_core.models.llm.unlearning import UNLEARNING, AdapterShards
from mia_core.pipeline import start
from mia_core.report.forgetting import (
    ForgettingResult,
    cost_sentence,
    forgetting_document,
    read_forgetting,
    read_scores,
    verdict_sentences,
)
from mia_core.storage.store import Store
from mia_core.studies.forgetting import (
    WITH,
    WITHOUT,
    Forgetting,
    _Bench,
    load_forgetting,
    parse_forgetting,
    run_forgetting,
)
from mia_core.types import Silent, StagePlan

EXPERIMENT: dict[str, Any] = {
    "name": "Tiny",
    "data": {"synthetic": {"users": 90, "items": 60, "mean_history": 12, "tastes": 3}},
    "prompt": {"history": 3, "windows": 2},
    "base": {"width": 16, "layers": 2, "vocabulary": 300, "pretraining": {"epochs": 1, "learning_rate": 5e-3}},
    "target": {"training": {"epochs": 15, "learning_rate": 2e-2}},
    "evaluation": {"resamples": 100, "ranked_users": 4, "negatives": 12, "placebo": False},
}
FAR_TOO_LONG = {"bounded": False, "epochs": 20, "keep_weight": 0.2}


def tiny(target: dict[str, Any] | None = None, **changes: Any) -> Forgetting:
    experiment = {**EXPERIMENT, "target": {**EXPERIMENT["target"], **(target or {})}}
    return parse_forgetting({"name": "Tiny check", "experiment": experiment, "forget": 0.25, **changes})


WHOLE = tiny(methods=["nothing", "retraining", "gradient_ascent"], settings={"gradient_ascent": FAR_TOO_LONG})
SHARDS = tiny(
    {"tuning": "lora", "lora": {"rank": 8}}, methods=["adapter_shards"], settings={"adapter_shards": {"shards": 3}}
)


class Told(Silent):
    """A Progress that remembers, and stops when it is told to."""

    def __init__(self, stop_in: str = "") -> None:
        self.stop_in = stop_in
        self.planned: list[str] = []
        self.finished: dict[str, bool] = {}
        self.stage, self.furthest = "", 0.0

    def plan(self, stages: Any) -> None:
        assert all(isinstance(stage, StagePlan) and stage.seconds > 0 for stage in stages)
        self.planned = [stage.name for stage in stages]

    def start(self, stage: str) -> None:
        self.stage, self.furthest = stage, 0.0

    def advance(self, fraction: float) -> None:
        assert 0 <= fraction <= 1
        self.furthest = max(self.furthest, fraction)
        if self.stage == self.stop_in and fraction > 0.5:
            raise Stopped

    def finish(self, stage: str, cached: bool) -> None:
        self.finished[stage] = cached


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def checked(shared: Store) -> ForgettingResult:
    """The check of a target that was trained whole; it is stopped on the way, once."""
    with pytest.raises(Stopped):
        run_forgetting(WHOLE, shared, Told(stop_in=WITHOUT))
    told = Told()
    result = run_forgetting(WHOLE, shared, told)
    # What was finished before the stop is not done again.
    assert told.finished[WITH]
    assert not told.finished[WITHOUT]
    assert list(told.finished) == told.planned
    return result


@pytest.fixture(scope="module")
def sharded(shared: Store) -> ForgettingResult:
    return run_forgetting(SHARDS, shared)


def scores_of(result: ForgettingResult, store: Store) -> pl.DataFrame:
    folder = store.find(result.key)
    assert folder is not None
    return read_scores(folder)


def test_doing_nothing_is_called_out_and_training_anew_passes(checked: ForgettingResult) -> None:
    verdicts = {outcome.name: outcome.judgement.verdict for outcome in checked.outcomes}
    assert verdicts == {"nothing": "not forgotten", "retraining": "forgotten", "gradient_ascent": "over-forgotten"}
    nothing, retraining, ascent = (outcome.judgement for outcome in checked.outcomes)
    assert nothing.left == pytest.approx(1)
    assert nothing.memory > 0.4
    assert abs(retraining.left or 0) < 0.2
    assert ascent.high < 0


def test_verdicts_and_costs_are_told_in_words(checked: ForgettingResult) -> None:
    told = {outcome.name: " ".join(verdict_sentences(outcome, checked.unit)) for outcome in checked.outcomes}
    assert "still score the 9 users higher" in told["nothing"]
    assert "100% of the memory is left" in told["nothing"]
    assert "look like they do to models that were trained without them" in told["retraining"]
    assert "±20%" in told["retraining"]
    assert "can still be made out" not in told["retraining"]
    passed = checked.outcome("retraining")
    close = dataclasses.replace(passed, judgement=dataclasses.replace(passed.judgement, p_exchange=0.008))
    assert "can still be made out (p = 0.008" in " ".join(verdict_sentences(close, checked.unit))
    assert "Standing out the other way gives a person away" in told["gradient_ascent"]
    assert "took 0% of the time" in cost_sentence(checked.outcome("nothing"), checked.unit)
    ascent = checked.outcome("gradient_ascent")
    assert ascent.drift.high < 0
    assert {useful.world for useful in ascent.usefulness} == {"original", "unlearned", "retrained"}
    assert all(0 <= useful.hit_rate_at_10.low <= useful.hit_rate_at_10.high <= 1 for useful in ascent.usefulness)
    assert ascent.relative_seconds is not None
    again = checked.outcome("retraining").relative_seconds
    assert again is not None
    assert 0.3 < again < 3


def test_scores_say_who_was_forgotten_and_what_models_say_of_them(checked: ForgettingResult, shared: Store) -> None:
    scores = scores_of(checked, shared)
    counted = scores.filter(method="nothing", world="original", seed=0).group_by("group").len()
    assert dict(counted.iter_rows())["forgotten"] == checked.forgotten == 9
    assert dict(counted.iter_rows())["retained"] == checked.members - checked.forgotten
    assert set(scores["seed"]) == set(range(5))
    kept = scores.filter(method="nothing", world="unlearned").drop("world")
    assert kept.equals(scores.filter(method="nothing", world="original").drop("world"))
    means = scores.filter(method="retraining").group_by("world", "group").agg(pl.col("score").mean())
    mean = {(world, group): value for world, group, value in means.iter_rows()}
    assert mean["original", "forgotten"] - mean["original", "held_out"] > 0.4
    # To a model that never saw them they are strangers, and so they are after training anew.
    assert abs(mean["retrained", "forgotten"] - mean["retrained", "held_out"]) < 0.3
    assert mean["retrained", "retained"] - mean["retrained", "forgotten"] > 0.3
    found = checked.outcome("nothing").judgement
    assert mean["original", "forgotten"] - mean["retrained", "forgotten"] == pytest.approx(found.memory)


def test_a_finished_check_costs_nothing_and_is_read_as_it_was_written(
    checked: ForgettingResult, shared: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {entry.key for entry in shared.entries()}
    monkeypatch.setattr("mia_core.studies.forgetting._judged", lambda *_: pytest.fail("nothing is left to do"))
    assert run_forgetting(WHOLE, shared, Told()) == checked
    assert run_forgetting(WHOLE.model_copy(update={"name": "Another name"}), shared).key == checked.key
    assert {entry.key for entry in shared.entries()} == before
    document = json.loads(json.dumps(forgetting_document(checked), allow_nan=False))
    assert [row["judgement"]["verdict"] for row in document["outcomes"]][:2] == ["not forgotten", "forgotten"]
    queue = Queue(shared.home)
    job = queue.submit("forget", "Tiny", {"forgetting": WHOLE.model_dump(mode="json")})
    assert KINDS["forget"](job.payload, shared, JobProgress(queue, job.id)) == checked.key


def test_one_listed_person_can_be_forgotten(checked: ForgettingResult, shared: Store) -> None:
    member = scores_of(checked, shared).filter(group="retained")["user"][0]
    told = Told()
    result = run_forgetting(tiny(forget=[member, member], methods=["nothing"]), shared, told)
    # The models that were trained on everybody are the same, whoever is to be forgotten, but are asked of others.
    assert result.forgotten == 1
    assert result.outcomes[0].judgement.verdict == "not forgotten"
    assert "the 1 user" in verdict_sentences(result.outcomes[0], result.unit)[0]
    assert set(scores_of(result, shared).filter(group="forgotten")["user"]) == {member}
    models = set(result.artifacts) & set(checked.artifacts)
    assert sum(entry.key in models for entry in shared.entries("model")) == 6


@pytest.mark.slow
def test_shards_are_forgotten_exactly(sharded: ForgettingResult, shared: Store, tmp_path: Path) -> None:
    (outcome,) = sharded.outcomes
    assert outcome.judgement.verdict in ("forgotten", "undecided")
    assert not outcome.judgement.p_above < 0.025
    method = SHARDS.chosen["adapter_shards"]
    assert isinstance(method, AdapterShards)
    gone = sorted(set(scores_of(sharded, shared).filter(group="forgotten")["user"]))
    weights = []
    for store in (shared, Store(tmp_path)):
        run = start(SHARDS.experiment, store, Silent(), Runtime(), announce=False)
        bench = _Bench(run, SHARDS, gone)
        if store is shared:
            # Forgetting: what is there is used.
            model, _, _ = bench.sharded(method, 0, bench.retained)
            assert all(part.cached for part in run.times)
        else:
            model, _, _ = bench.sharded(method, 0, bench.retained)
            assert not any(part.cached for part in run.times)
        weights.append(model.load().network.state_dict())
    forgotten, anew = weights
    assert forgotten.keys() == anew.keys()
    assert all(np.array_equal(forgotten[name], anew[name]) for name in anew)


@pytest.mark.slow
def test_only_shards_that_held_somebody_forgotten_are_trained_again(sharded: ForgettingResult, shared: Store) -> None:
    member = scores_of(sharded, shared).filter(group="forgotten")["user"][0]
    run = start(SHARDS.experiment, shared, Silent(), Runtime(), announce=False)
    bench, method = _Bench(run, SHARDS, [member]), AdapterShards(shards=3)
    _, _, before = bench.sharded(method, 0, bench.members)
    _, seconds, after = bench.sharded(method, 0, bench.retained, before)
    assert len(before & after) == 2
    # Adapters are merged beside them.
    assert [part.cached for part in run.times if part.name.startswith("shard")].count(False) == 1
    assert seconds is not None


def test_a_check_is_deleted_with_what_nothing_else_rests_on(tmp_path: Path, checked: ForgettingResult) -> None:
    store = Store(tmp_path)
    own, common, other = ("a1" + "0" * 62, "b2" + "0" * 62, "c3" + "0" * 62)
    for key in (own, common):
        store.build(key, "model", lambda folder: (folder / "weights").write_bytes(b"w") and None)
    for key, artifacts in ((checked.key, [own, common]), (other, [common])):
        result = dataclasses.replace(checked, key=key, artifacts=artifacts)
        store.build(key, "forgetting", lambda folder, result=result: result.write(folder, pl.DataFrame()))
    assert remove_forgetting(store, checked.key) == 2
    assert store.find(own) is None
    assert store.find(common) is not None


def test_command_line(
    checked: ForgettingResult,
    shared: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MIA_HOME", str(shared.home))
    monkeypatch.setenv("COLUMNS", "160")
    config, ids = tmp_path / "tiny.toml", tmp_path / "ids.txt"
    config.write_text(to_toml(parse_experiment(EXPERIMENT)), encoding="utf-8")
    gone = sorted(set(scores_of(checked, shared).filter(group="forgotten")["user"]))
    ids.write_text("\n".join(gone), encoding="utf-8")

    def forget(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["memberscope", "forget", str(config), *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            command_line.main()
        return int(stopped.value.code or 0), *capsys.readouterr()

    ways = [part for name in ("nothing", "retraining", "gradient_ascent") for part in ("--method", name)]
    settings = [
        part
        for name, value in FAR_TOO_LONG.items()
        for part in ("--set", f"settings.gradient_ascent.{name}={json.dumps(value)}")
    ]
    code, out, error = forget("--share", 0.25, *ways, *settings, "--json", tmp_path / "out.json")
    assert code == 0, error
    assert checked.key[:12] in out
    for text in ("Over-forgotten", "Nothing (control)", "9 of 36 members", "100%", "5 of each", "HR@10"):
        assert text in out
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["outcomes"][0]["sentences"][0].startswith("Not forgotten")
    # The same people, listed one by one, are the same check.
    assert checked.key[:12] in forget("--users", ids, *ways, *settings)[1]
    code, out, _ = forget("--list")
    assert code == 0
    assert "gradient_ascent" in out
    assert "adapter_shards" not in out
    for arguments, message in (
        (["--users", ids, "--share", 0.1], "not both"),
        (["--method", "gradient_descent"], "did you mean 'gradient_ascent'"),
        (["--seeds", 3], "seeds is 3"),
        (["--margin", 2], "margin is 2"),
        (["--share", 1.5], "forget is 1.5"),
        (["--method", "adapter_shards"], "needs LoRA adapters"),
        (["--set", "target.source=recommender"], "fine-tune"),
        (["--set", "settings.gradient_ascent.epoch=3"], "has no setting 'epoch'"),
    ):
        code, _, error = forget(*arguments)
        assert code == 2
        assert message in error


@pytest.mark.parametrize(
    ("target", "changes", "message"),
    [
        ({}, {"seeds": 4}, "seeds is 4; choose from 5 to 100"),
        ({}, {"forget": 0}, "above 0 and below 1"),
        ({}, {"forget": "ana"}, "or a list of ids"),
        ({}, {"forget": []}, "name at least one member"),
        ({}, {"methods": ["adapter_shards"]}, 'target.tuning = "lora"'),
        ({}, {"settings": {"adapter_shards": {"shards": 2}}}, 'target.tuning = "lora"'),
        ({}, {"methods": ["nothing"], "settings": {"gradient_ascent": {}}}, "which methods does not hold"),
        ({}, {"margin": 0}, "margin is 0"),
        ({}, {"alpha": 0.5}, "alpha is 0.5"),
        ({}, {"method": ["nothing"]}, "did you mean 'methods'"),
        ({"source": "recommender"}, {}, "fine-tune"),
        ({"source": "own", "path": "x", "members": "m", "held_out": "h"}, {}, "fine-tune"),
        ({"serving": "prompt"}, {}, "nothing to forget"),
        ({"world": "null"}, {}, "trained on no member"),
        ({"tuning": "lora", "start": "scratch"}, {"methods": ["adapter_shards"]}, 'target.start = "base"'),
    ],
)
def test_what_cannot_be_checked_is_refused_before_it_starts(
    target: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny(target, **changes)


def test_people_whom_the_model_was_not_trained_on_cannot_be_forgotten(shared: Store) -> None:
    run = start(WHOLE.experiment, shared, Silent(), Runtime(), announce=False)
    stranger, members = run.public[0], run.members_trained_on
    for listed, message in (
        ([members[0], stranger], "1 of 2 ids are no members"),
        (["nobody"], "'nobody'"),
        (members[:-5], "5 would stay; at least 10"),
    ):
        with pytest.raises(DataError, match=message):
            run_forgetting(tiny(forget=listed), shared)
    with pytest.raises(DataError, match="would stay"):
        run_forgetting(tiny(forget=0.9), shared)


def test_all_ways_that_the_target_allows_are_tried_where_none_is_named(tmp_path: Path) -> None:
    assert list(SHARDS.model_copy(update={"methods": (), "settings": {}}).chosen) == list(UNLEARNING)
    assert set(tiny().chosen) == set(UNLEARNING) - {"adapter_shards"}
    path = tmp_path / "tiny.toml"
    path.write_text(to_toml(parse_experiment(EXPERIMENT)), encoding="utf-8")
    document = load_forgetting(path, ["alpha=0.1", "seed=3"], seeds=6)
    assert (document.alpha, document.seeds, document.experiment.seed) == (0.1, 6, 3)
    assert document.name == "Forgetting: Tiny"
    assert parse_forgetting(document.model_dump(mode="json")) == document


def test_a_result_reads_as_it_was_written(checked: ForgettingResult, tmp_path: Path) -> None:
    checked.write(tmp_path, pl.DataFrame({"score": [1.0]}))
    assert read_forgetting(tmp_path) == checked
