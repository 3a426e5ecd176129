"""How long an audit is likely to take on this very machine, and how much memory it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from mia_core import estimate
from mia_core.errors import MemberScopeError
from mia_core.experiment import Base, Experiment, parse_experiment
from mia_core.report.results import AuditResult, read_result
from mia_core.store import Store
from mia_core.types import StagePlan

NEWEST = 10
"""Audits that the pace is taken from."""
SHORTEST = 1.0
"""Seconds of a stage that says something about the pace."""
GIGABYTE = 2.0**30
PROCESS = 0.55 * GIGABYTE
"""Of a process that has loaded what trains and asks models; measured on Linux, CPU."""
NUMBER = 4.0
"""Bytes of a float32."""
TRAINED = 4.0
"""Numbers kept for each trained weight: itself, its gradient, and Adam's two means."""
PER_INTERACTION = 600.0
"""Bytes of one interaction, as a table and as an event of a history."""
PER_ANSWER_TOKEN = 60.0
"""Bytes of what one view says of one answer token."""
ANSWER_TOKENS = 6.0
"""Of a title, about."""
TOKENS_PER_ITEM = 7.0
"""Of a prompt, about: a title and what parts it from the next."""
ACTIVATIONS = 34.0
"""Numbers that one layer keeps for each token and unit of width while it learns, attention apart."""


@dataclass(frozen=True)
class Pace:
    """How this machine compares with the plan."""

    factor: float
    """Seconds that were measured, of one planned."""
    audits: int
    """Finished ones that it was measured on; 0: none, and the factor is 1."""

    def of(self, stages: list[StagePlan]) -> float:
        """Seconds that these stages are likely to take here."""
        return self.factor * sum(stage.seconds for stage in stages)


def pace(store: Store, made_elsewhere: set[str] | None = None) -> Pace:
    """The machine's pace: of each of its newest audits what its stages took, of what was planned; the median of these.

    Args:
        made_elsewhere: keys of audits that were not run here.
    """
    found: list[float] = []
    for entry in store.entries("audit", "point"):
        if len(found) == NEWEST:
            break
        if entry.key not in (made_elsewhere or set()):
            ratio = _measured(read_result(entry.path))
            found += [ratio] if ratio else []
    return Pace(median(found), len(found)) if found else Pace(1.0, 0)


def _measured(result: AuditResult) -> float | None:
    try:
        planned = {one.name: one.seconds for one in estimate.plan(parse_experiment(result.config), result.data)}
    except MemberScopeError:
        # An audit of an earlier version, whose settings are no longer known.
        return None
    done = [stage for stage in result.stages if not stage.cached and planned.get(stage.name, 0) >= SHORTEST]
    return sum(stage.seconds for stage in done) / sum(planned[stage.name] for stage in done) if done else None


@dataclass(frozen=True)
class Memory:
    """Memory that an audit needs at its peak, in bytes."""

    needed: float | None
    """None: the model is not here yet, so that its size is not known."""
    available: float
    """Of this machine, now."""

    @property
    def enough(self) -> bool:
        """Whether it is likely to fit."""
        return self.needed is None or self.needed <= self.available


def memory(experiment: Experiment, summary: Mapping[str, Any]) -> Memory:
    """What an audit needs at its peak: its process, the placebo's beside it, the model in training, and the observations.

    A rough figure: it leaves out what libraries keep for themselves.

    Args:
        summary: `Interactions.summary()`; users, items and interactions are read.
    """
    available = float(psutil.virtual_memory().available)
    users, interactions = float(summary["users"]), float(summary["interactions"])
    data = PER_INTERACTION * interactions
    if experiment.kind == "recommender":
        return Memory(PROCESS + data + _dense_lists(experiment, users, float(summary["items"])), available)
    weights = _weights(experiment, float(summary["items"]))
    if weights is None:
        return Memory(None, available)
    window = experiment.prompt.history + 1
    windows = users * min(experiment.prompt.windows, max(1.0, interactions / max(1.0, users) / window))
    views = sum(len(estimate.views(experiment, need)) for need in estimate.needs(experiment))
    observed = views * windows * ANSWER_TOKENS * PER_ANSWER_TOKEN
    trained = NUMBER * weights * (TRAINED if experiment.target.tuning == "full" else 1.5)
    one = PROCESS + data + trained + NUMBER * weights + _activations(experiment, float(summary["items"])) + observed
    placebo = experiment.evaluation.placebo and experiment.target.world == "members" and not experiment.target.brought
    return Memory((2.0 if placebo else 1.0) * one, available)


def _dense_lists(experiment: Experiment, users: float, items: float) -> float:
    return NUMBER * (users + items) * experiment.recommender.factors * TRAINED


def _weights(experiment: Experiment, items: float) -> float | None:
    """Numbers of the audited model."""
    base = experiment.base
    if base.source == "offline":
        rows = items if experiment.kind == "sequence" else base.vocabulary
        return base.layers * 12.0 * base.width**2 + rows * base.width
    folder = Path(experiment.target.path or base.path) if base.source == "local" else None
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors")) if folder and folder.is_dir() else 0
    return size / NUMBER if size else None


def _activations(experiment: Experiment, items: float) -> float:
    """Bytes that a batch keeps while it is learned from."""
    base: Base = experiment.base
    sequence = experiment.kind == "sequence"
    tokens = (
        experiment.target.training.batch_size * (experiment.prompt.history + 1) * (1.0 if sequence else TOKENS_PER_ITEM)
    )
    answers = tokens if sequence else experiment.target.training.batch_size * ANSWER_TOKENS
    return NUMBER * (
        tokens * base.layers * base.width * ACTIVATIONS + 3 * answers * (items if sequence else base.vocabulary)
    )
