"""Which stages a run has, and how long each is likely to take on two CPU cores. No model is touched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mia_core.experiment import Base, Experiment, Training
from mia_core.types import StagePlan

READ = "Read and split the data"
BASE = "Pre-train the base model"
TARGET = "Fine-tune the target"
STUDENT_BASE = "Pre-train the student"
QUALITY = "Measure the recommendations"
ATTACK = "Run the attacks"
REPORT = "Calibrate and report"

# Seconds per window and epoch of training, and per observed window, of the default offline T5 on two cores.
TRAIN_SECONDS = 1 / 280
OBSERVE_SECONDS = 1 / 700
# A hub-sized model is slower by its number of weights; without opening it, by this guess.
LARGE_MODEL_FACTOR = 150.0


def soft_stage(j: int) -> str:
    """Name of the stage that distils soft-only reference j."""
    return f"Distil soft reference {j + 1}"


def student_stage(fold: int) -> str:
    """Name of the stage that distils the cross-fitted student of one fold."""
    return f"Distil student, fold {fold + 1}"


LEAKING = "Distil the leaking student"


def shadow_stage(k: int) -> str:
    """Name of the stage that trains shadow model k."""
    return f"Train shadow model {k + 1}"


def observe_stage(view: str) -> str:
    """Name of the stage that observes every scored user under one view."""
    return f"Observe: {view}"


def views(experiment: Experiment) -> list[str]:
    """The views that the chosen attacks read, in the order in which they are observed."""
    # Imported here: the catalogue belongs to the floor below and pages import this module first.
    from mia_core.attacks.catalogue import ATTACKS

    needs = {need for name in experiment.attacks.names for need in ATTACKS[name].needs}
    found = ["target"]
    if experiment.target.source == "fine-tune" or not experiment.target.no_base:
        found.append("base")
    if "soft" in needs:
        found += [f"soft {j}" for j in range(experiment.distillation.soft_references)]
    if "student" in needs:
        found += [f"student {k}" for k in range(experiment.distillation.folds)]
    if "leaking" in needs:
        found.append("leaking")
    if "shadows" in needs:
        found += [f"shadow {k}" for k in range(experiment.attacks.shadows)]
    return found


def plan(experiment: Experiment, summary: Mapping[str, Any]) -> list[StagePlan]:
    """The stages of a run in order, with the seconds each is likely to take.

    Args:
        summary: `Interactions.summary()`; users and interactions are read.
    """
    work = _Work(experiment, int(summary["users"]), int(summary["interactions"]))
    stages = [StagePlan(READ, 0.5 + work.interactions / 400_000)]
    own = experiment.target.source == "own"
    if experiment.base.source == "offline" and not own:
        stages.append(StagePlan(BASE, work.pretrain(experiment.base)))
    if not own:
        trainees = work.public / 2 if experiment.target.world == "null" else work.members
        stages.append(StagePlan(TARGET, work.train(trainees * work.windows, experiment.target.training)))
    stages += _reference_stages(experiment, work)
    for view in views(experiment):
        stages.append(StagePlan(observe_stage(view), work.observe(work.scored * work.windows)))
    if experiment.evaluation.ranked_users:
        ranked = min(experiment.evaluation.ranked_users, work.members)
        stages.append(StagePlan(QUALITY, 2 * work.observe(ranked * (experiment.evaluation.negatives + 1))))
    learned = sum(1.0 for name in experiment.attacks.names if name not in {"loss", "confidence", "entropy"})
    stages.append(StagePlan(ATTACK, 0.5 + learned * (1.2 + work.scored / 1_000)))
    stages.append(StagePlan(REPORT, 1.0))
    return stages


def _reference_stages(experiment: Experiment, work: _Work) -> list[StagePlan]:
    config = experiment.distillation
    wanted = views(experiment)
    stages = []
    fresh = config.student is not None or not config.warm_start or "base" not in wanted
    if fresh and any(view.startswith(("soft", "student", "leaking")) for view in wanted):
        stages.append(StagePlan(STUDENT_BASE, work.pretrain(config.student or experiment.base)))
    for view in wanted:
        kind, _, number = view.partition(" ")
        if kind == "soft":
            drawn = work.drawn(config.soft_windows)
            stages.append(StagePlan(soft_stage(int(number)), 1.3 * work.train(drawn, config.soft_training)))
        elif kind == "student":
            known = work.known * work.windows * (1 - 1 / config.folds) / 2
            stages.append(StagePlan(student_stage(int(number)), work.student(known)))
        elif kind == "leaking":
            stages.append(StagePlan(LEAKING, work.student(work.scored * work.windows / 2)))
        elif kind == "shadow":
            half = work.scored * work.windows / 2
            stages.append(StagePlan(shadow_stage(int(number)), work.train(half, experiment.target.training)))
    return stages


class _Work:
    """How much there is to do."""

    def __init__(self, experiment: Experiment, users: int, interactions: int) -> None:
        self.experiment = experiment
        self.interactions = interactions
        split, window = experiment.split, experiment.prompt.history + 1
        mean_history = interactions / max(1, users)
        self.windows = max(1.0, min(experiment.prompt.windows, mean_history / window))
        self.public = split.public_share * users
        self.members = (1 - split.public_share) * split.member_share * users
        self.scored = (1 - split.public_share) * users
        self.known = split.known_share * self.scored
        self.window = window
        self.offsets = max(1.0, mean_history - window)
        self.factor = _size(experiment.base) * (0.3 + 0.7 * window / 9)

    def drawn(self, count: int) -> float:
        # Histories differ in length: the short ones run out of offsets first.
        return self.public * min(0.85 * count, 0.8 * self.offsets)

    def pretrain(self, base: Base) -> float:
        return self.train(self.public * (self.offsets + self.window) / self.window, base.pretraining)

    def train(self, windows: float, training: Training) -> float:
        return 0.3 + self.factor * windows * training.epochs * TRAIN_SECONDS

    def student(self, windows_per_class: float) -> float:
        config = self.experiment.distillation
        return 1.3 * (self.train(windows_per_class, config.phase_one) + self.train(windows_per_class, config.phase_two))

    def observe(self, windows: float) -> float:
        return 0.2 + self.factor * windows * OBSERVE_SECONDS


def _size(base: Base) -> float:
    """Cost of one window relative to the default offline model."""
    if base.source != "offline":
        return LARGE_MODEL_FACTOR
    layers, output = base.layers * base.width**2, base.vocabulary * base.width / 8
    return 0.2 + 0.8 * (layers + output) / (4 * 128**2 + 4_000 * 128 / 8)
