"""Whole audits on tiny real models: every way in, the same numbers twice, and worlds whose answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import accuracy_score, roc_auc_score

from mia_core.audit import estimate
from mia_core.data import library
from mia_core.data.prompts import audit_samples, events_by_user, prompt_writer
from mia_core.data.split import Split
from mia_core.data.synthetic import generate
from mia_core.errors import ConfigError, DataError, NotFound
from mia_core.evaluate.metrics import best_threshold
from mia_core.experiment import Base, Experiment, Lora, Prompt, Runtime, Synthetic, Training, parse_experiment
from mia_core.models.llm.loading import add_lora, build_offline, load_local, save_model, train_tokenizer
from mia_core.models.llm.training import fit, hard_loss
from mia_core.pipeline import reopen, run_audit
from mia_core.report.lookup import lookup_user
from mia_core.report.results import AuditResult, read_table
from mia_core.report.wording import explain_lookup, headline
from mia_core.storage.store import Store
from mia_core.studies.lookup import lookup_history
from mia_core.types import Role, Silent, StagePlan

DATA = {"synthetic": {"users": 150, "items": 60, "mean_history": 20, "tastes": 3}}
QUICK = {"epochs": 2, "learning_rate": 5e-3}
TINY: dict[str, Any] = {
    "name": "Tiny",
    "data": DATA,
    "prompt": {"history": 4, "windows": 2},
    "base": {"width": 32, "layers": 2, "vocabulary": 400, "pretraining": QUICK},
    "target": {"training": {"epochs": 12, "learning_rate": 5e-3}},
    "distillation": {"phase_one": QUICK, "phase_two": QUICK, "soft_windows": 4, "soft_training": QUICK},
    "evaluation": {"resamples": 200, "ranked_users": 5, "negatives": 10, "placebo": False, "map_users": 0},
}


def tiny(**changes: Any) -> Experiment:
    document = {**TINY}
    for name, value in changes.items():
        document[name] = {**document.get(name, {}), **value} if isinstance(value, dict) else value
    return parse_experiment(document)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    # A home folder may be called anything; this name is no pattern.
    return Store(tmp_path_factory.mktemp("a[b]*c"))


@pytest.fixture(scope="module")
def audited(shared: Store) -> AuditResult:
    return run_audit(tiny(), shared)


def users_of(result: AuditResult, store: Store) -> pl.DataFrame:
    folder = store.find(result.key)
    assert folder is not None
    return read_table(folder, "users")


def test_the_share_of_a_persons_windows_that_was_used_is_estimated(audited: AuditResult, shared: Store) -> None:
    users = users_of(audited, shared).filter(pl.col("share_used").is_not_null())
    means = {role: part["share_used"].mean() for (role,), part in users.group_by("role")}
    assert set(means) == {Role.AUDITED_MEMBER, Role.AUDITED_HELD_OUT}
    # All windows of a member were used, and none of anybody else's.
    assert means[Role.AUDITED_MEMBER] > 0.7 > 0.3 > means[Role.AUDITED_HELD_OUT]
    assert ((users["share_low"] <= users["share_used"]) & (users["share_used"] <= users["share_high"])).all()
    found = lookup_user(shared, audited.key, users["user"][0])
    assert any("windows of interactions an estimated" in sentence for sentence in explain_lookup(found, audited))


def test_a_target_that_memorised_is_found_out(audited: AuditResult) -> None:
    for attack in ("loss", "target_minus_base", "distillation"):
        auc = audited.metric(attack, "auc")
        assert auc is not None
        assert (auc.value or 0) > 0.8, attack
        assert (auc.low or 0) < (auc.value or 0) < (auc.high or 1)


def test_every_part_of_the_result_is_there(audited: AuditResult, shared: Store) -> None:
    assert {attack.name for attack in audited.attacks} == {*tiny().attacks.names}
    assert {q.recommender for q in audited.quality} == {"target", "base", "popularity"}
    assert {a.reference for a in audited.agreement} == {"soft 0", "student 0", "student 1"}
    folder = shared.find(audited.key)
    assert folder is not None
    features = read_table(folder, "features")
    assert set(features["model"]) == {"target", "base", "soft 0", "leaking", "student 0", "student 1"}
    assert set(features["feature"]) == {"loss", "confidence", "entropy", "hidden"}
    of_target = features.filter(pl.col("model") == "target").group_by("role", "feature").agg(pl.col("value").mean())
    mean = {(role, feature): value for role, feature, value in of_target.iter_rows()}
    for feature, sign in (("loss", -1), ("confidence", 1), ("entropy", -1)):
        assert sign * (mean[Role.AUDITED_MEMBER, feature] - mean[Role.AUDITED_HELD_OUT, feature]) > 0, feature
    assert set(read_table(folder, "roc")["attack"]) == {attack.name for attack in audited.attacks}
    planned = [stage.name for stage in estimate.plan(tiny(), {"users": 150, "interactions": 3_000})]
    assert sorted(stage.name for stage in audited.stages) == sorted(planned)


def test_a_finished_audit_whose_data_went_keeps_them_anew_and_makes_nothing_else(
    audited: AuditResult, shared: Store
) -> None:
    shared.remove(audited.data["key"])
    before = {entry.key for entry in shared.entries()}
    with pytest.raises(NotFound, match="run the audit again"):
        reopen(audited, shared, Silent(), Runtime())
    assert run_audit(tiny(), shared).created == audited.created
    assert {entry.key for entry in shared.entries()} - before == {audited.data["key"]}
    assert reopen(audited, shared, Silent(), Runtime()).interactions.key == audited.data["key"]


def test_p_values_are_for_those_who_are_judged_and_known_users_have_none(audited: AuditResult, shared: Store) -> None:
    users = users_of(audited, shared)
    has_p = users.filter(pl.col("p.distillation").is_not_null())
    assert set(has_p["role"]) == {Role.AUDITED_MEMBER, Role.AUDITED_HELD_OUT}
    held_out = has_p.filter(pl.col("role") == Role.AUDITED_HELD_OUT)["p.distillation"]
    # Judged against each other they are evenly spread: the sorted p-values are 1/n, 2/n, …
    np.testing.assert_allclose(
        np.sort(held_out), (np.arange(len(held_out)) + 0.5) / len(held_out), atol=1.5 / len(held_out)
    )
    members = has_p.filter(pl.col("role") == Role.AUDITED_MEMBER)["p.distillation"]
    assert np.median(members) < 0.3


def test_who_is_called_a_member_was_settled_on_known_users(audited: AuditResult, shared: Store) -> None:
    users = users_of(audited, shared).filter(pl.col("role") != Role.PUBLIC)
    member = users["role"].str.ends_with("_member").to_numpy()
    known = users["role"].str.starts_with("known").to_numpy()
    for attack in ("loss", "target_minus_base", "distillation"):
        scores = users[f"score.{attack}"].to_numpy()
        threshold = best_threshold(scores[known], member[known])
        called = scores[~known] >= threshold
        found = audited.metric(attack, "accuracy")
        assert found is not None
        assert found.value == pytest.approx(accuracy_score(member[~known], called))


def test_the_same_audit_again_comes_from_the_store(audited: AuditResult, shared: Store) -> None:
    assert run_audit(tiny(name="Another name"), shared) == audited


def test_an_upload_and_a_file_give_the_same_audit(shared: Store, audited: AuditResult, tmp_path: Path) -> None:
    made = generate(Synthetic(**DATA["synthetic"]), 0)
    key = library.save(shared, made, "saved")
    made.frame.join(made.items, on="item").write_csv(tmp_path / "data.csv")
    for data in ({"source": "data-set", "key": key}, {"source": "file", "path": str(tmp_path / "data.csv")}):
        assert run_audit(tiny(data=data), shared).key == audited.key


@pytest.mark.slow
def test_two_cold_runs_give_the_same_bytes(audited: AuditResult, shared: Store, tmp_path: Path) -> None:
    again = run_audit(tiny(), Store(tmp_path))
    assert again.key == audited.key
    assert again.metrics == audited.metrics
    assert users_of(again, Store(tmp_path)).equals(users_of(audited, shared))


def test_an_interrupted_audit_goes_on_where_it_stopped(tmp_path: Path, audited: AuditResult) -> None:
    class Stop(Exception):
        pass

    class StopAtObservation(Silent):
        def start(self, stage: str) -> None:
            if stage == estimate.observe_stage("target"):
                raise Stop

    with pytest.raises(Stop):
        run_audit(tiny(), Store(tmp_path), StopAtObservation())
    finished: dict[str, bool] = {}

    class Note(Silent):
        def finish(self, stage: str, cached: bool) -> None:
            finished[stage] = cached

    result = run_audit(tiny(), Store(tmp_path), Note())
    assert result.metrics == audited.metrics
    assert all(
        finished[stage] for stage in (estimate.BASE, estimate.TARGET, estimate.LEAKING, estimate.student_stage(0))
    )
    assert not finished[estimate.observe_stage("target")]


@pytest.mark.slow
def test_in_the_null_world_only_the_leaking_demonstration_finds_anybody(shared: Store) -> None:
    result = run_audit(tiny(target={**TINY["target"], "world": "null"}), shared)
    users = users_of(result, shared)
    for attack in result.attacks:
        auc = result.metric(attack.name, "auc")
        assert auc is not None
        assert auc.low is not None
        assert auc.high is not None
        if attack.status == "honest":
            # Wider than the 95% interval: nine attacks are looked at, at a family-wise 1%.
            width = auc.high - auc.low
            assert auc.low - width / 3 < 0.5 < auc.high + width / 3, attack.name
            # Nor on known users, whom no attack is fitted on when it scores them.
            known = users.filter(pl.col("role").str.starts_with("known"))
            truth = known["role"] == Role.KNOWN_MEMBER
            assert roc_auc_score(truth, known[f"score.{attack.name}"]) < 0.8, attack.name
    assert any("Null world" in note for note in result.notes)


@pytest.mark.parametrize(
    ("family", "tuning"),
    [
        ("gpt2", "lora"),
        pytest.param("llama", "full", marks=pytest.mark.slow),
        pytest.param("gpt2", "full", marks=pytest.mark.slow),
        pytest.param("t5", "lora", marks=pytest.mark.slow),
        pytest.param("llama", "lora", marks=pytest.mark.slow),
    ],
)
def test_other_families_and_lora(family: str, tuning: str, shared: Store) -> None:
    training = {"epochs": 15, "learning_rate": 5e-3 if tuning == "full" else 1e-2}
    # An adapter can only lean on what its frozen base has learned.
    pretraining = {"epochs": 2 if tuning == "full" else 10, "learning_rate": 5e-3}
    experiment = tiny(
        base={**TINY["base"], "family": family, "pretraining": pretraining},
        target={"tuning": tuning, "training": training, "lora": {"rank": 16}},
        attacks={"names": ["loss", "target_minus_base", "distillation", "shadow_classifier", "bavaria"], "shadows": 2},
    )
    result = run_audit(experiment, shared)
    # Adapters of shadow models are trained together, whole models one by one: each on those whom the coins name.
    for name in ("target_minus_base", "bavaria"):
        auc = result.metric(name, "auc")
        assert auc is not None
        assert (auc.value or 0) > 0.6, name
    assert result.metric("shadow_classifier", "auc") is not None
    planned = [stage.name for stage in estimate.plan(experiment, {"users": 150, "interactions": 3_000})]
    assert sorted(stage.name for stage in result.stages) == sorted(planned)


def test_shadow_models_show_how_the_target_treats_those_whom_it_met(shared: Store) -> None:
    """Were it mistaken who met which shadow model, these attacks would take members for strangers."""
    names = ["lira_online", "lira_fixed_variance", "shadow_classifier"]
    result = run_audit(tiny(attacks={"names": names, "lead": "lira_online", "shadows": 4}), shared)
    for name in names:
        auc = result.metric(name, "auc")
        assert auc is not None
        assert (auc.low or 0) > 0.6, name


def test_likes_and_dislikes_and_a_student_of_another_family(shared: Store) -> None:
    experiment = tiny(
        prompt={"style": "like_dislike", "history": 4, "windows": 2},
        distillation={**TINY["distillation"], "variant": "symmetric", "student": {**TINY["base"], "family": "gpt2"}},
        attacks={"names": ["loss", "distillation"]},
    )
    result = run_audit(experiment, shared)
    assert result.metric("distillation", "auc") is not None
    assert {a.reference for a in result.agreement} == {"soft 0", "student 0", "student 1"}


def test_ratings_are_needed_where_likes_are_asked_for(shared: Store) -> None:
    data = {"synthetic": {**DATA["synthetic"], "ratings": False}}
    with pytest.raises(DataError, match="next_item"):
        run_audit(tiny(data=data, prompt={"style": "like_dislike", "history": 4}), shared)
    with pytest.raises(DataError, match="shorter history"):
        run_audit(tiny(prompt={"history": 100}), shared)


@pytest.fixture(scope="module")
def brought(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A base and a target that somebody else fine-tuned, whole and as an adapter, with lists of users."""
    folder = tmp_path_factory.mktemp("own")
    made = generate(Synthetic(**DATA["synthetic"]), 0)
    users = sorted(set(made.frame["user"]))
    members, held_out, judged = users[:50], users[50:100], [*users[100:110], *users[110:120]]
    trained = [*members, *users[100:110]]
    asker = prompt_writer(made, Prompt(history=4), [])
    samples = audit_samples(trained, events_by_user(made, asker), asker, 2)
    tokenizer = train_tokenizer(made.items["title"].to_list() * 5, asker.literals, 400)
    base = build_offline(Base(width=32, layers=2), tokenizer, 0, torch.device("cpu"))
    others = audit_samples(users[120:], events_by_user(made, asker), asker, 4)
    fit(base, base.encode(others.prompts, others.answers), hard_loss(), Training(epochs=10, learning_rate=5e-3), seed=0)
    save_model(base, folder / "base")
    encoded = base.encode(samples.prompts, samples.answers)
    adapter = add_lora(load_local(folder / "base", torch.device("cpu")), Lora(rank=16), 0)
    fit(adapter, encoded, hard_loss(), Training(epochs=25, learning_rate=1e-2), seed=0)
    save_model(adapter, folder / "adapter")
    fit(base, encoded, hard_loss(), Training(epochs=15, learning_rate=5e-3), seed=0)
    save_model(base, folder / "tuned")
    for name, ids in {"members": members, "held_out": held_out, "judged": judged}.items():
        (folder / f"{name}.txt").write_text("\n".join(ids))
    return folder, judged


def own(folder: Path, target: str, **more: Any) -> Experiment:
    lists = {name: str(folder / f"{name}.txt") for name in ("members", "held_out", "judged")}
    base = {"source": "local", "path": str(folder / "base")}
    return tiny(target={"source": "own", "path": str(folder / target), **lists, **more}, base={**TINY["base"], **base})


@pytest.mark.parametrize("target", [pytest.param("tuned", marks=pytest.mark.slow), "adapter"])
def test_a_target_that_is_brought_along_is_judged(target: str, brought: tuple[Path, list[str]], shared: Store) -> None:
    folder, judged = brought
    result = run_audit(own(folder, target), shared)
    users = users_of(result, shared)
    of_judged = users.filter(pl.col("role") == Role.JUDGED).sort("user")
    assert of_judged["user"].to_list() == judged
    p = of_judged["p.distillation"].to_numpy()
    assert roc_auc_score([1] * 10 + [0] * 10, -p) > 0.8
    auc = result.metric("distillation", "auc")
    assert auc is not None
    assert auc.n == 75
    assert (auc.value or 0) > 0.75
    assert any("exchangeable" in note for note in result.notes)
    planned = estimate.plan(own(folder, target), {"users": 150, "interactions": 3_000})
    assert {stage.name for stage in result.stages} == {stage.name for stage in planned}
    assert "demonstration" in result.attack("distillation_leaking").skipped


def test_without_a_base_what_needs_it_is_switched_off(brought: tuple[Path, list[str]], shared: Store) -> None:
    folder, _ = brought
    result = run_audit(own(folder, "tuned", no_base=True), shared)
    assert "no_base" in result.attack("target_minus_base").skipped
    assert result.metric("target_minus_base", "auc") is None
    auc = result.metric("distillation", "auc")
    assert auc is not None
    assert auc.value is not None
    with pytest.raises(ConfigError, match="needs its base"):
        run_audit(own(folder, "adapter", no_base=True), shared)


def test_a_pasted_history_is_judged_like_the_calibration_users(audited: AuditResult, shared: Store) -> None:
    users = users_of(audited, shared)
    made = generate(Synthetic(**DATA["synthetic"]), 0)
    names = dict(zip(made.items["item"], made.items["title"], strict=True))
    member = users.filter(pl.col("role") == Role.AUDITED_MEMBER).sort("score.distillation")["user"].to_list()[-1]
    history = [names[i] for i in made.frame.filter(pl.col("user") == member)["item"]]
    found = lookup_history(audited.key, [history[0].upper(), *history[1:], "Unheard of"], shared, Silent(), Runtime())
    assert (found.matched, found.unmatched) == (len(history), ["Unheard of"])
    assert found.p_value is not None
    assert found.p_value <= 0.1
    assert found.calibration_users == len(found.held_out_scores) == 40
    assert np.mean(found.member_scores) > np.mean(found.held_out_scores)
    # Half of 40 members and of 40 others fix the threshold, the rest say what the verdict is worth.
    assert found.flag is not None
    assert (found.flag.flagged, found.flag.members, found.flag.held_out) == (True, 20, 20)
    assert found.flag.hits > found.flag.alarms
    short = lookup_history(audited.key, history[:3], shared, Silent(), Runtime())
    assert (short.score, short.p_value) == (None, None)
    assert "cannot be scored" in short.reason
    with pytest.raises(DataError, match="empty"):
        lookup_history(audited.key, ["  "], shared, Silent(), Runtime())


def test_the_split_of_an_audit_is_kept_as_a_manifest(audited: AuditResult, shared: Store) -> None:
    (entry,) = [e for e in shared.entries("split") if "shares" in Split.read(e.path).manifest][:1]
    assert Split.read(entry.path).counts() == audited.roles


def test_the_estimate_names_every_stage_and_grows_with_the_work() -> None:
    small = estimate.plan(tiny(), {"users": 100, "interactions": 2_000})
    large = estimate.plan(tiny(), {"users": 1_000, "interactions": 20_000})
    assert all(isinstance(stage, StagePlan) for stage in small)
    growth = [b.seconds / a.seconds for a, b in zip(small, large, strict=True) if a.name == estimate.TARGET]
    assert 5 < growth[0] < 11
    assert sum(s.seconds for s in large) > 1.5 * sum(s.seconds for s in small)


def test_the_placebo_runs_beside_and_its_gate_can_fail(tmp_path: Path) -> None:
    store = Store(tmp_path)
    evaluation = {**TINY["evaluation"], "placebo": True}
    names = ["loss", "target_minus_base", "distillation_leaking"]
    experiment = tiny(evaluation=evaluation, attacks={"names": names, "lead": "loss"})
    result = run_audit(experiment, store)
    assert [gate.name for gate in result.gates] == ["blind", "placebo", "null"]
    placebo = result.gates[1]
    assert placebo.n == 80
    assert "leaking demonstration" in placebo.sentence
    assert [entry.name for entry in store.entries("audit")] == ["Tiny"]
    (twin,) = store.entries("placebo")
    null = run_audit(tiny(attacks={"names": names, "lead": "loss"}, target={**TINY["target"], "world": "null"}), store)
    if null.key == twin.key:
        assert {entry.kind for entry in store.entries() if entry.key == twin.key} == {"audit"}
    planned = [stage.name for stage in estimate.plan(experiment, {"users": 150, "interactions": 3_000})]
    assert sorted(stage.name for stage in result.stages) == sorted(planned)


def test_a_split_that_is_not_random_is_refused(shared: Store, tmp_path: Path, brought: tuple[Path, list[str]]) -> None:
    folder, _ = brought
    made = generate(Synthetic(**DATA["synthetic"]), 0)
    members = set((folder / "members.txt").read_text().split())
    # The members' data are four years younger than everybody else's.
    later = pl.when(pl.col("user").is_in(list(members))).then(pl.duration(days=1_500)).otherwise(pl.duration(days=0))
    frame = made.frame.with_columns((pl.col("timestamp") + later.dt.total_seconds()).alias("timestamp"))
    frame.join(made.items, on="item").write_csv(tmp_path / "shifted.csv")
    data = {"source": "file", "path": str(tmp_path / "shifted.csv")}
    experiment = own(folder, "tuned").model_copy(update={"data": tiny(data=data).data})
    result = run_audit(experiment, shared)
    assert not result.valid
    assert [gate.name for gate in result.gates if not gate.passed] == ["blind"]
    assert "not valid" in headline(result)


@pytest.mark.slow
def test_a_target_that_serves_from_its_prompt_gives_away_who_stands_in_it(shared: Store) -> None:
    pretraining = {"epochs": 5, "learning_rate": 3e-3}
    names = ["loss", "target_minus_base", "inquiry", "memorisation", "distillation", "gradient_norm"]
    changes: dict[str, Any] = {
        "prompt": {"history": 2, "windows": 2},
        "base": {"family": "llama", "width": 64, "layers": 2, "vocabulary": 600, "pretraining": pretraining},
        "attacks": {"names": names, "lead": "target_minus_base"},
        "views": {"shots": 2, "list_length": 4},
    }
    result = run_audit(tiny(target={"serving": "prompt"}, **changes), shared)
    auc = result.metric("target_minus_base", "auc")
    assert auc is not None
    assert (auc.low or 0) > 0.6
    assert "serves from its prompt" in result.attack("distillation").skipped
    assert "serves from its prompt" in result.attack("gradient_norm").skipped
    assert result.metric("memorisation", "auc") is not None
    assert any("nothing about membership in weights" in note or "Nothing was trained" in note for note in result.notes)
    null = run_audit(tiny(target={"serving": "prompt", "world": "null"}, **changes), shared)
    nothing = null.metric("target_minus_base", "auc")
    assert nothing is not None
    assert (nothing.low or 0) < 0.5 < (nothing.high or 1)
    planned = {
        stage.name
        for stage in estimate.plan(tiny(target={"serving": "prompt"}, **changes), {"users": 150, "interactions": 3_000})
    }
    assert {stage.name for stage in result.stages} == planned


def test_lists_alone_are_judged_by_what_looks_at_lists_alone(
    brought: tuple[Path, list[str]], shared: Store, tmp_path: Path
) -> None:
    folder, judged = brought
    made = generate(Synthetic(**DATA["synthetic"]), 0)
    rng = np.random.default_rng(0)
    items = made.items["item"].to_list()
    trained = {*(folder / "members.txt").read_text().split(), *judged[:10]}
    rows = []
    for user in sorted(set(made.frame["user"])):
        history = made.frame.filter(pl.col("user") == user)["item"].to_list()
        # This recommender gives members their own next items back.
        own = history[-5:] if user in trained else []
        ranked = list(dict.fromkeys([*own, *rng.permutation(items)]))[:8]
        rows += [{"user": user, "rank": i + 1, "item": item} for i, item in enumerate(ranked)]
    pl.DataFrame(rows).write_csv(tmp_path / "lists.csv")
    ids = {name: str(folder / f"{name}.txt") for name in ("members", "held_out", "judged")}
    target = {"source": "lists", "lists": str(tmp_path / "lists.csv"), **ids}
    names = ["list_hit", "similarity", "reference_recommendation", "loss", "petal"]
    experiment = tiny(target=target, attacks={"names": names, "lead": "list_hit"}, views={"list_length": 8})
    result = run_audit(experiment, shared)
    users = users_of(result, shared)
    p = users.filter(pl.col("role") == Role.JUDGED).sort("user")["p.list_hit"].to_numpy()
    assert roc_auc_score([1] * 10 + [0] * 10, -p) > 0.8
    assert "no_history" in result.attack("reference_recommendation").skipped
    assert "only its lists" in result.attack("loss").skipped
    assert "only its lists" in result.attack("petal").skipped
    assert {stage.name for stage in result.stages} <= {
        stage.name for stage in estimate.plan(experiment, {"users": 150, "interactions": 3_000})
    }
