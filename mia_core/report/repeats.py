"""The same audit under other seeds: how far chance in splitting and training moves its figures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mia_core.evaluate.dependence import Spread, between_seed_spread
from mia_core.report.results import AuditResult, read_result
from mia_core.storage.store import Store


@dataclass(frozen=True)
class Repeats:
    """Finished audits that are the same in everything but the seed."""

    seeds: tuple[int, ...]
    """This audit's own, then those of the others that passed their gates, in order."""
    refused: tuple[int, ...]
    """Seeds whose audit did not pass its gates; their figures are in no spread."""
    spread: dict[str, Spread]
    """Of the lead attack's figures over `seeds`, by metric; only figures that two seeds or more resolve."""
    redrawn: bool
    """Whether the seed also draws the users: built-in data, or a random share of larger data."""


def find_repeats(store: Store, result: AuditResult) -> Repeats:
    """What the store holds of an audit under other seeds, the newest where one seed was run several times."""
    own = int(result.config["seed"])
    runs = {own: result}
    for entry in store.entries("audit", "point"):
        other = read_result(entry.path)
        if _same_but_for_the_seed(result, other):
            runs.setdefault(int(other.config["seed"]), other)
    others = sorted(seed for seed, run in runs.items() if seed != own and run.valid)
    seeds = (own, *others)
    spread = {}
    for metric in result.metrics:
        if metric.attack == result.lead:
            found = [runs[seed].metric(result.lead, metric.metric) for seed in seeds]
            values = [math.nan if m is None or m.value is None else m.value for m in found]
            spread[metric.metric] = between_seed_spread(np.array(values))
    return Repeats(
        seeds=seeds,
        refused=tuple(sorted(seed for seed, run in runs.items() if seed != own and not run.valid)),
        spread={name: figure for name, figure in spread.items() if figure.seeds > 1},
        redrawn=seed_draws_users(result.config["data"]),
    )


def seed_draws_users(data: dict[str, Any]) -> bool:
    """Whether the section ``data`` of a config names other users under another seed."""
    return data["source"] == "built-in" or data.get("thin", {}).get("keep_users") is not None


def _same_but_for_the_seed(one: AuditResult, other: AuditResult) -> bool:
    """Whether two audits ask the same of the same data.

    Data are the same by content, wherever they were read from. Where the seed draws them, no two seeds share any: there
    the same recipe is the same data.
    """

    def asked(config: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in config.items() if name not in ("name", "seed", "data")}

    if asked(one.config) != asked(other.config):
        return False
    if seed_draws_users(one.config["data"]) or seed_draws_users(other.config["data"]):
        return bool(one.config["data"] == other.config["data"])
    return bool(one.data["key"] == other.data["key"])
