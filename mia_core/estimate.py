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
GATES = "Gates: blind, placebo, null"

# Seconds per window and epoch of training, and per observed window, of the default offline T5 on two cores.
TRAIN_SECONDS = 1 / 280
OBSERVE_SECONDS = 1 / 700
# An adapter's share of a training that adapters share, of one of its own.
TOGETHER = 0.8
# A hub-sized model is slower by its number of weights; without opening it, by this guess.
LARGE_MODEL_FACTOR = 150.0
OTHER_TEMPLATES = 2
"""Ways of putting the question in other words that each prompt style has."""


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


SHADOW_ADAPTERS = "Train the shadow adapters together"
SELF_PROMPTED = "Train the self-prompted reference"
TRAJECTORY = "Distil the trajectory reference"


def shadows_together(experiment: Experiment) -> bool:
    """Whether the shadow models are adapters that share one training; those that stop early each have their own."""
    return experiment.target.tuning == "lora" and not experiment.target.training.early_stop


def observe_stage(need: str) -> str:
    """Name of the stage that asks about every scored user in one way."""
    model, _, variant = need.replace("_", " ").partition("/")
    return f"Observe: {model}, {variant}" if variant else f"Observe: {model}"


def needs(experiment: Experiment) -> list[str]:
    """What the chosen attacks want to be asked, in the order in which it is asked: see `mia_core.observe.views`."""
    # Imported here: the catalogue belongs to the floor below and pages import this module first.
    from mia_core.attacks.catalogue import ATTACKS

    wanted = {need.rstrip("?") for name in experiment.attacks.names for need in ATTACKS[name].needs}
    found = ["target", "base"]
    models = [
        name for name in ("soft", "student", "leaking", "shadows", "trajectory", "self_prompted") if name in wanted
    ]
    return [*found, *models, *sorted(wanted - {*found, *models})]


ONLY_LISTS = frozenset({"lists", "lists/no_history", "self_prompted"})
"""What can be asked where only lists were brought along."""
STUDENTS = frozenset({"soft", "student", "leaking", "trajectory", "self_prompted"})
"""References that start where a student starts."""
TRAINED = STUDENTS | {"shadows", "gradient"}
"""Needs that make no sense of a target that was not trained on anybody."""


def impossible(experiment: Experiment, need: str) -> str:
    """Why a need cannot be met, as far as the config alone tells; empty where it can."""
    # As above: pages import this module first.
    from mia_core.data.prompts import PROMPT_STYLES
    from mia_core.observe.views import LISTS

    target, model = experiment.target, need.partition("/")[0]
    if target.source == "lists":
        return "" if need in ONLY_LISTS else "needs the model itself, and only its lists were brought along"
    if target.serving == "prompt" and model in TRAINED:
        return "asks what training left behind, and this target serves from its prompt: nothing was trained on anybody"
    if target.source == "own" and target.no_base and model in {"base", "shadows"}:
        return "needs the model before fine-tuning, which target.no_base says is not to be had"
    if target.source == "own" and need == "leaking":
        return "is a demonstration for audits in which the split is known"
    if need in LISTS and not PROMPT_STYLES[experiment.prompt.style].answers_with_titles:
        return "needs a model that answers with items; choose prompt.style = 'next_item'"
    return ""


def views(experiment: Experiment, need: str) -> list[str]:
    """The views that one need stands for: "shadow 0", "shadow 1", … for "shadows"."""
    from mia_core.observe.views import NOISE_DRAWS

    config = experiment.views
    counts = {
        "soft": experiment.distillation.soft_references,
        "student": experiment.distillation.folds,
        "shadows": experiment.attacks.shadows,
        "trajectory": config.trajectory_epochs,
        "answer_swapped": config.swaps,
        "history_swapped": config.swaps,
        "noisy": len(config.noise) * NOISE_DRAWS,
        "template": OTHER_TEMPLATES,
    }
    count = counts.get(need.rpartition("/")[2])
    if count is None:
        return [need]
    name = "shadow" if need == "shadows" else need
    return [f"{name} {k}" for k in range(count)]


def plan(experiment: Experiment, summary: Mapping[str, Any]) -> list[StagePlan]:
    """The stages of a run in order, with the seconds each is likely to take.

    Args:
        summary: `Interactions.summary()`; users and interactions are read.
    """
    from mia_core.attacks.catalogue import ATTACKS

    work = _Work(experiment, int(summary["users"]), int(summary["interactions"]))
    stages = [StagePlan(READ, 0.5 + work.interactions / 400_000)]
    brought = experiment.target.source != "fine-tune"
    if experiment.base.source == "offline" and not brought:
        stages.append(StagePlan(BASE, work.pretrain(experiment.base)))
    if not brought and experiment.target.serving == "weights":
        trainees = work.public / 2 if experiment.target.world == "null" else work.members
        stages.append(StagePlan(TARGET, work.train(trainees * work.windows, experiment.target.training)))
    wanted = [need for need in needs(experiment) if not impossible(experiment, need)]
    stages += _reference_stages(experiment, work, wanted)
    stages += [StagePlan(observe_stage(need), work.ask(need)) for need in wanted]
    if experiment.evaluation.ranked_users:
        ranked = min(experiment.evaluation.ranked_users, work.members)
        stages.append(StagePlan(QUALITY, 2 * work.observe(ranked * (experiment.evaluation.negatives + 1))))
    learned = sum(ATTACKS[name].learned for name in experiment.attacks.names)
    stages.append(StagePlan(ATTACK, 0.5 + 0.1 * len(experiment.attacks.names) + learned * (1.2 + work.scored / 1_000)))
    stages.append(StagePlan(REPORT, 1.0))
    # The placebo runs beside the rest; only its lag is waited for.
    stages.append(StagePlan(GATES, 2.0))
    return stages


def _reference_stages(experiment: Experiment, work: _Work, wanted: list[str]) -> list[StagePlan]:
    config, asked = experiment.distillation, experiment.views
    stages = []
    fresh = config.student is not None or not config.warm_start or "base" not in wanted
    if fresh and STUDENTS & set(wanted):
        stages.append(StagePlan(STUDENT_BASE, work.pretrain(config.student or experiment.base)))
    if "soft" in wanted:
        seconds = 1.3 * work.train(work.drawn(config.soft_windows), config.soft_training)
        stages += [StagePlan(soft_stage(j), seconds) for j in range(config.soft_references)]
    if "student" in wanted:
        known = work.known * work.windows * (1 - 1 / config.folds) / 2
        stages += [StagePlan(student_stage(k), work.student(known)) for k in range(config.folds)]
    if "leaking" in wanted:
        stages.append(StagePlan(LEAKING, work.student(work.scored * work.windows / 2)))
    if "shadows" in wanted:
        half = work.train(work.scored * work.windows / 2, experiment.target.training)
        if shadows_together(experiment):
            stages.append(StagePlan(SHADOW_ADAPTERS, TOGETHER * experiment.attacks.shadows * half))
        else:
            stages += [StagePlan(shadow_stage(k), half) for k in range(experiment.attacks.shadows)]
    if "trajectory" in wanted:
        training = config.soft_training.model_copy(update={"epochs": asked.trajectory_epochs})
        stages.append(StagePlan(TRAJECTORY, 1.3 * work.train(work.drawn(asked.trajectory_windows), training)))
    if "self_prompted" in wanted:
        drawn = work.drawn(asked.self_prompted_windows)
        seconds = work.train(drawn, asked.self_prompted_training) + work.observe(drawn)
        stages.append(StagePlan(SELF_PROMPTED, seconds))
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

    def ask(self, need: str) -> float:
        windows = self.scored * self.windows
        config = self.experiment.views
        if need == "gradient":
            return 0.2 + self.factor * windows / 60
        if need == "temperatures":
            return len(config.temperatures) * config.repeats * self.observe(windows)
        if need.startswith("lists"):
            return config.list_length * self.observe(windows)
        longer = 1.0 + config.shots if "/after" in need else 1.0
        return longer * len(views(self.experiment, need)) * self.observe(windows)

    def observe(self, windows: float) -> float:
        """Seconds to read, or to write, one answer to each window."""
        return 0.2 + self.factor * windows * OBSERVE_SECONDS


def _size(base: Base) -> float:
    """Cost of one window relative to the default offline model."""
    if base.source != "offline":
        return LARGE_MODEL_FACTOR
    layers, output = base.layers * base.width**2, base.vocabulary * base.width / 8
    return 0.2 + 0.8 * (layers + output) / (4 * 128**2 + 4_000 * 128 / 8)
