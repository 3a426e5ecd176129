"""What p-values, gates and claims are made of: the right users, columns and signs. No model is trained here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy import stats

from mia_core.attacks.evidence import Evidence, Known
from mia_core.audit.claims import judge_gates, make_claims, with_names
from mia_core.audit.stages import Run
from mia_core.evaluate.calibration import strata
from mia_core.experiment import Runtime
from mia_core.pipeline import _user_table, start
from mia_core.report.results import AuditResult
from mia_core.storage.store import Store
from mia_core.types import Gate, Role, Silent
from tests.attacks.conftest import observations
from tests.test_pipeline import DATA, tiny

MEMBERS = (Role.KNOWN_MEMBER, Role.AUDITED_MEMBER)


@pytest.fixture
def run(store: Store) -> Run:
    data = {"synthetic": {**DATA["synthetic"], "users": 240}}
    experiment = tiny(data=data, attacks={"names": ["loss"], "lead": "loss"})
    run = start(experiment, store, Silent(), Runtime(), announce=False)
    # The coins have fallen before anything about the data is changed.
    _ = run.split
    return run


def roles_of(run: Run) -> np.ndarray:
    return np.array([run.split.roles[user] for user in run.scored], dtype=object)


def members_of(run: Run) -> np.ndarray:
    return np.array([role in MEMBERS for role in roles_of(run)])


def table(run: Run, p: np.ndarray) -> pl.DataFrame:
    """The user table, with p-values of the lead attack for those who are judged."""
    popularity = [np.mean([run.popularity.get(event.item, 0.0) for event in run.events[user]]) for user in run.scored]
    judged = [not role.known for role in roles_of(run)]
    return pl.DataFrame(
        {
            "user": run.scored,
            "role": [str(role) for role in roles_of(run)],
            "history_length": [len(run.events[user]) for user in run.scored],
            "mean_popularity": popularity,
            "p.loss": [value if mine else None for value, mine in zip(p.tolist(), judged, strict=True)],
        }
    )


def gates_of(
    run: Run, p: np.ndarray | None = None, placebo: Callable[[], AuditResult] | None = None
) -> dict[str, Gate]:
    p = np.random.default_rng(0).random(len(run.scored)) if p is None else p
    return {gate.name: gate for gate in judge_gates(run, roles_of(run), table(run, p), placebo)}


def exchanged_items(run: Run) -> pl.Expr:
    """Of each pair of equally popular items, members have only the one and held-out users only the other."""
    ordered = [item for _, item in sorted(zip(run.catalogue.counts, run.catalogue.items, strict=True), reverse=True)]
    del run.__dict__["catalogue"]
    pairs = [ordered[i : i + 2][:: 1 if i % 4 else -1] for i in range(0, 20, 2)]
    for_members, for_others = dict(pairs), {second: first for first, second in pairs}
    return (
        pl.when(pl.col("user").is_in(run.split.users(*MEMBERS)))
        .then(pl.col("item").replace(for_members))
        .when(pl.col("user").is_in(run.public))
        .then(pl.col("item"))
        .otherwise(pl.col("item").replace(for_others))
        .alias("item")
    )


@pytest.mark.parametrize(
    ("difference", "told_by"),
    [("none", ""), ("length", "covariate"), ("time", "covariate"), ("rating", "covariate"), ("items", "the items")],
)
def test_the_blind_gate_sees_everything_in_which_members_could_differ(difference: str, told_by: str, run: Run) -> None:
    frame, member = run.interactions.frame, pl.col("user").is_in(run.split.users(*MEMBERS))
    if difference == "length":
        frame = frame.filter(~member | (pl.int_range(pl.len()).over("user") % 3 > 0))
    elif difference == "time":
        frame = frame.with_columns(pl.col("timestamp") + pl.when(member).then(40_000_000).otherwise(0))
    elif difference == "rating":
        frame = frame.with_columns(pl.when(member).then(5.0).otherwise(pl.col("rating")).alias("rating"))
    elif difference == "items":
        frame = frame.with_columns(exchanged_items(run))
        run.__dict__.pop("events", None)
    run.interactions = replace(run.interactions, table=frame)
    gate = gates_of(run)["blind"]
    assert gate.passed == (not told_by)
    assert told_by in gate.sentence


def test_the_null_gate_judges_held_out_users_by_the_lead_attack(run: Run) -> None:
    rng = np.random.default_rng(1)
    held_out = roles_of(run) == Role.AUDITED_HELD_OUT
    by_length = stats.rankdata([len(run.events[user]) for user in run.scored], "ordinal") / len(run.scored)
    even = np.empty(len(run.scored))
    even[held_out] = (rng.permutation(held_out.sum()) + 1) / held_out.sum()
    assert gates_of(run, np.where(held_out, even, by_length))["null"].passed
    by_length[held_out] = stats.rankdata(by_length[held_out]) / held_out.sum()
    assert not gates_of(run, np.where(held_out, by_length, rng.random(len(run.scored))))["null"].passed


def test_the_placebo_gate_judges_the_audit_of_strangers(run: Run, saved: AuditResult) -> None:
    """On the planted audit "distillation" finds members: on strangers that would be a fault."""
    gate = gates_of(run, placebo=lambda: saved)["placebo"]
    assert not gate.passed
    assert "Distillation" in gate.sentence
    assert gate.statistic is not None
    assert gate.statistic > 0.9
    quiet = replace(saved, attacks=[attack for attack in saved.attacks if attack.name == "loss"])
    assert gates_of(run, placebo=lambda: quiet)["placebo"].passed


def test_users_are_named_at_the_discovery_rate(run: Run) -> None:
    p = np.random.default_rng(2).random(len(run.scored)) ** np.where(members_of(run), 6, 1)
    users = with_names(run, table(run, p))
    judged = users.filter(pl.col("p.loss").is_not_null())
    adjusted = stats.false_discovery_control(judged["p.loss"], method="bh")
    assert judged["named"].to_list() == (adjusted <= run.experiment.evaluation.discovery_rate).tolist()
    assert 0 < judged["named"].sum() < (judged["p.loss"] <= run.experiment.evaluation.discovery_rate).sum()
    assert not users.filter(pl.col("p.loss").is_null())["named"].any()
    held_out = int((roles_of(run) == Role.AUDITED_HELD_OUT).sum())
    nothing = Evidence(tuple(run.scored), np.zeros(0, int), {})
    nobody = np.zeros(0, int), np.zeros(0, bool)
    claims = make_claims(run, users, nothing, Known(nothing, members_of(run)), {}, nobody)
    assert (claims.named, claims.named_correctly) == (
        users["named"].sum(),
        users.filter("named")["role"].eq(Role.AUDITED_MEMBER).sum(),
    )
    # Each held-out user is compared with the others.
    assert claims.resolution.startswith(f"With {held_out - 1} calibration users")


def test_held_out_users_are_ranked_among_themselves_and_within_their_stratum(run: Run) -> None:
    """Scores follow the length of the history; overall and within each stratum every rank occurs once all the same."""
    rng = np.random.default_rng(5)
    length = np.array([len(run.events[user]) for user in run.scored])
    users = _user_table(run, roles_of(run), {"loss": length + rng.random(len(length))}).head(len(length))
    held_out = roles_of(run) == Role.AUDITED_HELD_OUT
    stratum = strata(length, users["mean_popularity"].to_numpy(), calibrating=held_out)
    assert stratum.max() > 0
    among = {f"p_stratum.loss {kind}": held_out & (stratum == kind) for kind in np.unique(stratum)}
    for column, these in {"p.loss": held_out, **among}.items():
        ranked = np.sort(users[column.split()[0]].to_numpy()[these])
        assert ranked == pytest.approx(np.arange(1, len(ranked) + 1) / len(ranked)), column


@pytest.mark.parametrize("sign", [1, -1])
def test_privacy_bounds_follow_from_members_that_score_higher(sign: int, run: Run) -> None:
    rng = np.random.default_rng(3)
    at = np.flatnonzero([not role.known for role in roles_of(run)])
    member = members_of(run)
    scores = {"loss": rng.normal(size=len(run.scored)) + 4 * sign * member}
    users = with_names(run, table(run, rng.random(len(run.scored))))
    nothing = Evidence(tuple(run.scored), np.zeros(0, int), {})
    claims = make_claims(run, users, nothing, Known(nothing, member), scores, (at, member[at]))
    assert {bound.method for bound in claims.privacy} == {"one_run", "f_dp", "clopper_pearson"}
    assert all((bound.epsilon > 1) == (sign > 0) for bound in claims.privacy)


def test_windows_are_called_alike_by_those_of_held_out_users(run: Run) -> None:
    """Members' windows share what was learned of the person; how alike windows are by nature, strangers show."""
    rng = np.random.default_rng(4)
    samples, member = run.samples, members_of(run)
    tokens = np.arange(len(samples) + 1), np.zeros(len(samples), np.int32)
    plain = observations(rng, np.zeros(len(samples.users)), samples.user_index, tokens)
    own = rng.normal(size=len(samples.users))[samples.user_index]
    values = np.where(member[samples.user_index], own, rng.normal(size=len(samples)))
    evidence = Evidence(samples.users, samples.user_index, {"target": replace(plain, log_probability=values)})
    users = with_names(run, table(run, rng.random(len(run.scored))))
    claims = make_claims(run, users, evidence, Known(evidence, member), {}, (np.zeros(0, int), np.zeros(0, bool)))
    assert claims.correlation is not None
    assert claims.correlation < 0.4
