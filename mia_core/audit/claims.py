"""What an audit may say: the gates that come before any result, and claims about many users at once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np
import polars as pl

from mia_core.attacks.catalogue import ATTACKS
from mia_core.attacks.contract import DEMONSTRATION, NO_EVIDENCE
from mia_core.attacks.ensemble import Ensemble
from mia_core.attacks.evidence import Evidence, Known
from mia_core.audit.stages import Run
from mia_core.errors import MemberScopeError
from mia_core.evaluate.comparison import delong_difference, max_statistic
from mia_core.evaluate.dependence import effective_windows, intraclass_correlation
from mia_core.evaluate.discoveries import benjamini_hochberg, smallest_namable, wrong_at_most
from mia_core.evaluate.gates import blind_gate, null_gate, placebo_gate
from mia_core.evaluate.privacy import EpsilonBound, epsilon_clopper_pearson, epsilon_f_dp, epsilon_one_run
from mia_core.experiment import Experiment
from mia_core.report.results import AttackComparison, AuditResult, Claims, PrivacyBound, read_table
from mia_core.seeds import generator
from mia_core.types import UNITS, Gate, Role, Unit

PERMUTATIONS = 2_000
LARGEST_PERMUTED = 20_000
"""With more users the permutations of membership are drawn for a random part of them."""
FAIR = 0.5
COVARIATES = ("history length", "latest time", "earliest time", "mean rating", "mean popularity")


def placebo_experiment(experiment: Experiment, data_key: str) -> Experiment:
    """The same audit on a target that was trained on strangers."""
    document = experiment.model_dump()
    document["name"] = f"{experiment.name} (placebo)"
    document["data"] = {"source": "kept", "key": data_key}
    document["target"]["world"] = "null"
    # How well it recommends, and what its outputs look like, does not matter to the gate.
    document["evaluation"] |= {"ranked_users": 0, "map_users": 0}
    return Experiment.model_validate(document)


def judge_gates(
    run: Run, roles: np.ndarray, users: pl.DataFrame, placebo: Callable[[], AuditResult] | None
) -> list[Gate]:
    """The three gates, those that this audit can be put through."""
    gates = [_blind(run, roles, users)]
    if placebo is not None:
        gates.append(_placebo(run, placebo))
    lead = run.experiment.attacks.lead
    held_out = users.filter(pl.col("role") == Role.AUDITED_HELD_OUT)
    if f"p.{lead}" in users.columns:
        rng = generator(run.experiment.seed, "null gate")
        p = held_out[f"p.{lead}"].fill_null(np.nan).to_numpy()
        gates.append(null_gate(p, held_out["history_length"].to_numpy(), held_out["mean_popularity"].to_numpy(), rng))
    return [_told(gate, UNITS[run.interactions.unit]) for gate in gates]


def _told(gate: Gate, unit: Unit) -> Gate:
    """The gate in the words of the audit's unit, without numbers that are none."""

    def plain(value: float | None) -> float | None:
        return None if value is None or math.isnan(value) else float(value)

    return dataclasses.replace(
        gate,
        passed=bool(gate.passed),
        statistic=plain(gate.statistic),
        p_value=plain(gate.p_value),
        sentence=unit.say(gate.sentence),
        way_out=unit.say(gate.way_out),
    )


def _blind(run: Run, roles: np.ndarray, table: pl.DataFrame) -> Gate:
    """What can be told of a user without any model: length, popularity, time, ratings and the items themselves."""
    with_truth = np.flatnonzero([role.member is not None for role in roles])
    users = [run.scored[i] for i in with_truth]
    times = pl.col("timestamp")
    figures_of = (
        pl.len().alias("length"),
        times.max().cast(pl.Float64).alias("latest"),
        times.min().cast(pl.Float64).alias("earliest"),
        pl.col("rating").mean().alias("mean_rating"),
    )
    asked = pl.Series(users, dtype=pl.String).implode()
    parts = (part.filter(pl.col("user").is_in(asked)) for part in run.interactions.parts())
    per_user = pl.concat(part.group_by("user").agg(figures_of) for part in parts)
    ordered = pl.DataFrame({"user": users}).join(per_user, on="user", how="left", maintain_order="left")
    figures = (
        ordered.select("length", "latest", "earliest", "mean_rating").cast(pl.Float64).fill_null(np.nan).to_numpy()
    )
    histories = [[event.item for event in run.events.get(user, [])] for user in users]
    # The table begins with those who are scored, in their order.
    popularity = table["mean_popularity"].to_numpy()[with_truth]
    covariates = np.column_stack([figures, popularity])
    there = ~np.isnan(covariates).all(axis=0)
    names = [name for name, known in zip(COVARIATES, there, strict=True) if known]
    member = np.array([bool(roles[i].member) for i in with_truth])
    rng = generator(run.experiment.seed, "blind gate")
    return blind_gate(covariates[:, there], histories, member, rng, names)


def _placebo(run: Run, placebo: Callable[[], AuditResult]) -> Gate:
    way_out = "Give more public users (split.public_share), or shorter windows, so that strangers can train a target."
    try:
        result = placebo()
    except MemberScopeError as error:
        return Gate("placebo", True, None, None, 0, f"The placebo could not be run: {error}", way_out)
    run.used |= {result.key, *result.artifacts}
    folder = run.store.find(result.key)
    assert folder is not None  # noqa: S101 - it has just been finished
    users = read_table(folder, "users").filter(pl.col("role").is_in([Role.AUDITED_MEMBER, Role.AUDITED_HELD_OUT]))
    scores = {
        attack.name: users[f"score.{attack.name}"].fill_null(np.nan).to_numpy()
        for attack in result.attacks
        if f"score.{attack.name}" in users.columns
    }
    leaking = [name for name in scores if ATTACKS[name].status == DEMONSTRATION]
    demonstration = scores[leaking[0]] if leaking else None
    honest = {ATTACKS[name].title: values for name, values in scores.items() if name not in leaking}
    member = (users["role"] == Role.AUDITED_MEMBER).to_numpy()
    return placebo_gate(honest, member, demonstration, generator(run.experiment.seed, "placebo gate"))


def with_names(run: Run, users: pl.DataFrame) -> pl.DataFrame:
    """The user table, with those marked whom the lead attack names at the discovery rate."""
    lead = f"p.{run.experiment.attacks.lead}"
    if lead not in users.columns:
        return users
    named = benjamini_hochberg(users[lead].fill_null(np.nan).to_numpy(), run.experiment.evaluation.discovery_rate)
    return users.with_columns(pl.Series("named", named))


def list_bound(run: Run, users: pl.DataFrame) -> pl.DataFrame:
    """listed, wrong_at_most: for the users with the smallest p-values by the lead attack, however many are listed."""
    lead = f"p.{run.experiment.attacks.lead}"
    p = users[lead].fill_null(np.nan).to_numpy() if lead in users.columns else np.zeros(0)
    wrong = wrong_at_most(p, _calibration_users(run, users, lead), run.experiment.evaluation.confidence)
    return pl.DataFrame({"listed": np.arange(1, len(wrong) + 1), "wrong_at_most": np.asarray(wrong, dtype=np.int64)})


def make_claims(
    run: Run,
    users: pl.DataFrame,
    evidence: Evidence,
    known: Known,
    scores: Mapping[str, np.ndarray],
    truth: tuple[np.ndarray, np.ndarray],
) -> Claims:
    """Claims of the lead attack about everybody judged.

    Args:
        users: the user table with `with_names`.
        scores: (n_scored,) of each attack.
        truth: where the users stand whose truth measures the attacks, and that truth.
    """
    config = run.experiment
    lead = config.attacks.lead
    judged = int(users[f"p.{lead}"].is_not_null().sum()) if f"p.{lead}" in users.columns else 0
    resolution = smallest_namable(_calibration_users(run, users, f"p.{lead}"), judged, config.evaluation.discovery_rate)
    named = users.filter(pl.col("named")) if "named" in users.columns else users.head(0)
    truly = None if (users["role"] == Role.JUDGED).any() else int((named["role"] == Role.AUDITED_MEMBER).sum())
    correlation, effective = _dependence(run, evidence)
    say = UNITS[run.interactions.unit].say
    return Claims(
        discovery_rate=config.evaluation.discovery_rate,
        named=named.height,
        named_correctly=truly,
        resolution=say(resolution.sentence),
        correlation=correlation,
        effective_windows=effective,
        privacy=_privacy(run, scores.get(lead), truth),
        comparisons=_comparisons(run, scores, truth),
        best_single_feature=say(_best_single_feature(known)) if "ensemble" in scores else "",
    )


def _calibration_users(run: Run, users: pl.DataFrame, column: str) -> int:
    """With how many each calibration user is compared; where like is compared with like, in the smallest group."""
    if column not in users.columns:
        return 0
    calibrating = users.filter((pl.col("role") == Role.AUDITED_HELD_OUT) & pl.col(column).is_not_null())
    if run.experiment.evaluation.compared_with == "like" and calibrating.height:
        return int(calibrating.group_by("stratum").len()["len"].min()) - 1  # type: ignore[arg-type]
    return max(0, calibrating.height - 1)


def _dependence(run: Run, evidence: Evidence) -> tuple[float | None, float | None]:
    """(correlation between windows of one held-out user, independent windows that a user's windows are worth)."""
    if "target" not in evidence.views:
        return None, None
    values = evidence.views["target"].sample_mean("log_probability")
    if "base" in evidence.views:
        values = values - evidence.views["base"].sample_mean("log_probability")
    held_out = {user for user in run.scored if run.split.roles[user].member is False}
    inside = np.array([evidence.users[i] in held_out for i in evidence.user_index], dtype=bool)
    correlation = intraclass_correlation(values[inside], evidence.user_index[inside])
    windows = np.bincount(evidence.user_index[inside])
    if math.isnan(correlation) or not windows.any():
        return None, None
    return float(correlation), float(effective_windows(float(windows[windows > 0].mean()), correlation))


def _privacy(run: Run, scores: np.ndarray | None, truth: tuple[np.ndarray, np.ndarray]) -> list[PrivacyBound]:
    config, (at, member) = run.experiment, truth
    if scores is None or not len(at):
        return []
    fair = not config.target.brought and config.split.member_share == FAIR
    ways: dict[str, Callable[..., EpsilonBound]] = {"clopper_pearson": epsilon_clopper_pearson}
    if fair:
        # These two count on an independent fair coin for every user.
        ways = {"one_run": epsilon_one_run, "f_dp": epsilon_f_dp, **ways}
    bounds = []
    for method, bound in ways.items():
        rng = generator(config.seed, "epsilon", method)
        found = bound(scores[at], member, config.evaluation.delta, config.evaluation.confidence, rng)
        sentence = UNITS[run.interactions.unit].say(found.sentence)
        bounds.append(PrivacyBound(method, float(found.epsilon), float(found.delta), sentence))
    return bounds


def _comparisons(
    run: Run, scores: Mapping[str, np.ndarray], truth: tuple[np.ndarray, np.ndarray]
) -> list[AttackComparison]:
    at, member = truth
    honest = {name: values[at] for name, values in scores.items() if ATTACKS[name].status not in NO_EVIDENCE}
    lead = honest.get(run.experiment.attacks.lead)
    if not honest or not len(at):
        return []
    rng = generator(run.experiment.seed, "best of all attacks")
    part = rng.permutation(len(at))[:LARGEST_PERMUTED]
    adjusted = max_statistic({n: v[part] for n, v in honest.items()}, member[part], PERMUTATIONS, rng)
    rows = []
    for name, values in honest.items():
        figures: list[float] = [adjusted[name], math.nan, math.nan, math.nan]
        if lead is not None and values is not lead:
            figures[1:] = delong_difference(values, lead, member, run.experiment.evaluation.confidence)[:3]
        rows.append(AttackComparison(name, *(None if math.isnan(figure) else float(figure) for figure in figures)))
    return rows


def _best_single_feature(known: Known) -> str:
    name, auc = Ensemble().best_single_feature(known)
    return f"{name}, AUC {auc:.3f} on known users"
