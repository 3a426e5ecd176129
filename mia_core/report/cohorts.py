"""Where the leak is: among which groups of users the lead attack tells members from held-out users."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from mia_core import parquet
from mia_core.evaluate.cohorts import k_medoids, standardised
from mia_core.evaluate.intervals import auc_interval
from mia_core.report.results import AuditResult
from mia_core.report.signals import DIFFERENT_AXES, OVER_BASE, OVER_REFERENCE, REFERENCE
from mia_core.report.thresholds import Rate, call, rate_of, scores_of, smallest_level, threshold_at, with_truth
from mia_core.seeds import derive_seed

FEWEST = 10
"""Members, and held-out users, below which a group is too small to say how well its members are told apart."""
BINS = 10
FEWEST_IN_A_BIN = 20
FITTED_WITH_LABELS = ("student", "leaking")
"""Models that learned from users whose membership is known; what they show of these users is not used here."""


@dataclass(frozen=True)
class Portraits:
    """What the models show of every user, side by side."""

    users: list[str]
    values: np.ndarray
    """(users, signals), on their own scales."""
    signals: list[str]
    """MODEL · FEATURE, by column."""
    left_out: int
    """Users of whom a value is missing."""


@dataclass(frozen=True)
class Cohort:
    """One group of like users."""

    number: int
    """From 1, the largest first."""
    exemplar: str
    """The user in its middle."""
    users: int
    apart: list[tuple[str, float]]
    """What sets it apart the most: a signal, and how many standard deviations its mean lies from everybody's."""


@dataclass(frozen=True)
class Leak:
    """How well the lead attack tells members of a group from held-out users of the same group."""

    members: int
    held_out: int
    share: Rate
    """Of those judged, the members: where it differs from everybody's, belonging to the group tells something by itself."""
    auc: float | None
    """None where members or held-out users are fewer than `FEWEST`."""
    low: float
    high: float
    found: Rate | None
    """Members of the group found at the threshold of `level` false alarms among everybody; None: not resolved."""
    alarms: Rate | None
    """Held-out users of the group who are found with them."""


@dataclass(frozen=True)
class Bin:
    """The users whose value lies between two limits, both included."""

    lowest: float
    highest: float
    leak: Leak


def portraits(folder: Path, *, by_target: bool = True) -> Portraits:
    """The users as the target, the base and the label-free references show them, and the differences between these.

    Args:
        folder: of the audit.
        by_target: with what the target shows, its leak included; else with what the models show that never met a member.
    Returns:
        no label of anybody is in it, neither directly nor through a model that learned from labels.
    """
    labelled = pl.any_horizontal(pl.col("model").str.starts_with(kind) for kind in FITTED_WITH_LABELS)
    rows = parquet.scan(folder / "features.parquet").filter(~labelled).select("user", "model", "feature", "value")
    # All soft references are one another's repetitions: their mean is one model.
    model = pl.when(pl.col("model").str.starts_with(REFERENCE)).then(pl.lit("reference")).otherwise(pl.col("model"))
    rows = rows.with_columns(model=model)
    if not by_target:
        rows = rows.filter(pl.col("model").is_in(["base", "reference"]))
    parts = rows.select("model", "feature").unique().collect().sort("model", "feature").rows()
    wide: pl.DataFrame | None = None
    for name, feature in parts:
        chosen = rows.filter((pl.col("model") == name) & (pl.col("feature") == feature))
        column = chosen.group_by("user").agg(pl.col("value").mean().alias(f"{name} · {feature}")).collect()
        wide = column if wide is None else wide.join(column, on="user", how="full", coalesce=True)
    if wide is None:
        return Portraits([], np.zeros((0, 0)), [], 0)
    compared = {"base": OVER_BASE, "reference": OVER_REFERENCE}
    differences = [
        (pl.col(f"target · {feature}") - pl.col(f"{other} · {feature}")).alias(f"{title} · {feature}")
        for other, title in compared.items()
        for name, feature in parts
        if name == "target" and feature != DIFFERENT_AXES and (other, feature) in parts
    ]
    wide = wide.with_columns(differences).sort("user")
    whole = wide.drop_nulls()
    signals = [name for name in whole.columns if name != "user"]
    return Portraits(whole["user"].to_list(), whole.select(signals).to_numpy(), signals, wide.height - whole.height)


def form_cohorts(shown: Portraits, k: int, seed: int) -> tuple[pl.DataFrame, list[Cohort]]:
    """(user, cohort; the cohorts): users whom the models show alike, in k groups; no label takes part.

    Args:
        shown: by `portraits`.
        k: groups; fewer come back where users are fewer or all alike.
        seed: of the audit.
    """
    points = standardised(shown.values) if len(shown.users) else shown.values
    formed = k_medoids(points, k, derive_seed(seed, "cohorts", k))
    spread = shown.values.std(axis=0)
    steps = (shown.values - shown.values.mean(axis=0)) / np.where(spread > 0, spread, 1) if len(shown.users) else points
    cohorts = []
    for i, exemplar in enumerate(formed.exemplars):
        inside = formed.cohort == i
        means = steps[inside].mean(axis=0)
        furthest = np.argsort(-np.abs(means), kind="stable")[:3]
        apart = [(shown.signals[j], float(means[j])) for j in furthest]
        cohorts.append(Cohort(i + 1, shown.users[exemplar], int(inside.sum()), apart))
    return pl.DataFrame(
        {"user": shown.users, "cohort": formed.cohort + 1}, {"user": pl.String, "cohort": pl.Int64}
    ), cohorts


def leaks_by_cohort(users: pl.DataFrame, cohort_of: pl.DataFrame, result: AuditResult) -> dict[int, Leak]:
    """The leak within each cohort, by its number.

    Args:
        users: user, role and the lead's score.
        cohort_of: by `form_cohorts`.
    Returns:
        intervals that hold for all cohorts at once.
    """
    judged = with_truth(users, result).join(cohort_of, on="user")
    numbers = sorted(cohort_of["cohort"].unique())
    limit = _threshold(with_truth(users, result), _score(result))
    confidence = _for_all(result, len(numbers))
    return {
        number: _leak(judged.filter(pl.col("cohort") == number), _score(result), limit, confidence)
        for number in numbers
    }


def leaks_by_value(users: pl.DataFrame, value: str, result: AuditResult) -> list[Bin]:
    """The leak among users with a low, a middle and a high value: in ten bins, or in fewer where users are few.

    Args:
        users: user, role, the lead's score and this value; users without one are left out.
        value: its column.
    Returns:
        bins of about equal size, in order; users of equal values are never separated. Intervals hold for all bins at once.
    """
    everybody = with_truth(users, result)
    judged = everybody.drop_nulls([value, _score(result)])
    smaller = min(int(judged["member"].sum()), judged.height - int(judged["member"].sum()))
    wanted = min(BINS, smaller // FEWEST_IN_A_BIN)
    if wanted < 2:
        return []
    values = judged[value].to_numpy().astype(float)
    cuts = np.unique(np.quantile(values, np.arange(1, wanted) / wanted, method="inverted_cdf"))
    # A user at a cut belongs below it.
    place = np.searchsorted(cuts, values, side="left")
    limit = _threshold(everybody, _score(result))
    used = np.unique(place)
    bins = []
    for at in used:
        part = judged.filter(pl.Series(place == at))
        inside = values[place == at]
        leak = _leak(part, _score(result), limit, _for_all(result, len(used)))
        bins.append(Bin(float(inside.min()), float(inside.max()), leak))
    return bins


def share_of_members(users: pl.DataFrame, result: AuditResult) -> float:
    """The members among everybody who is judged and has a score."""
    members, held_out = scores_of(with_truth(users, result), _score(result))
    return len(members) / max(1, len(members) + len(held_out))


def found_at(users: pl.DataFrame, result: AuditResult) -> float | None:
    """The share of false alarms among everybody at which members are counted as found; None: it cannot be resolved."""
    _, held_out = scores_of(with_truth(users, result), _score(result))
    return smallest_level(len(held_out))


def most_exposed(users: pl.DataFrame, result: AuditResult, most: int = 50) -> pl.DataFrame:
    """user, score, p (null for known users), the members with the highest scores first."""
    score, p = _score(result), f"p.{result.lead}"
    members = with_truth(users, result).filter(pl.col("member")).drop_nulls(score)
    return members.top_k(most, by=score).select("user", pl.col(score).alias("score"), pl.col(p).alias("p"))


def last_times(data: Path) -> pl.DataFrame:
    """user, last: when each user of kept interactions was last seen (seconds since 1970); nobody where there are no times."""
    times = parquet.scan(data / "interactions.parquet").group_by("user").agg(last=pl.col("timestamp").max())
    return times.drop_nulls("last").collect()


def _leak(group: pl.DataFrame, score: str, limit: float | None, confidence: float) -> Leak:
    members, held_out = scores_of(group, score)
    auc: tuple[float | None, float, float] = (None, 0.0, 1.0)
    if min(len(members), len(held_out)) >= FEWEST:
        auc = auc_interval(members, held_out, confidence)
    called = None if limit is None else call(members, held_out, float(np.nextafter(limit, np.inf)), confidence)
    n = len(members) + len(held_out)
    share = rate_of(len(members), n, confidence)
    return Leak(
        len(members),
        len(held_out),
        share,
        *auc,
        called.recall if called else None,
        called.false_alarms if called else None,
    )


def _threshold(judged: pl.DataFrame, score: str) -> float | None:
    """The score above which users are found, the same for every group."""
    _, held_out = scores_of(judged, score)
    level = smallest_level(len(held_out))
    return None if level is None else threshold_at(held_out, level)


def _for_all(result: AuditResult, groups: int) -> float:
    """The confidence of each of several intervals, so that all of them hold together (Bonferroni)."""
    return 1 - (1 - float(result.config["evaluation"]["confidence"])) / max(1, groups)


def _score(result: AuditResult) -> str:
    return f"score.{result.lead}"
