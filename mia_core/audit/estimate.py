"""Which stages a run has, and how long each is likely to take on two CPU cores. No model is touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mia_core.experiment import Base, Experiment, Recommender, Training
from mia_core.types import StagePlan

READ = "Read and split the data"
BASE = "Train the starting model on third parties (base)"
TARGET = "Train the audited model (target)"
STUDENT_BASE = "Train the starting model of the copies (student)"
QUALITY = "Measure the recommendations"
ATTACK = "Run the attacks"
REPORT = "Work out p-values and the report"
MAP = "Draw a map of what the target says"
GATES = "Check the audit itself (blind, placebo and null gate)"

# Seconds per window and epoch of training, and per observed window, of the default offline T5 on two cores.
TRAIN_SECONDS = 1 / 280
OBSERVE_SECONDS = 1 / 700
# An adapter's share of a training that adapters share, of one of its own.
TOGETHER = 0.8
# What a history of items takes, compared with a window of words of the same model.
OF_SEQUENCES = 0.13
# Seconds per rating, drawn negative and epoch of a latent-factor model with 100 factors.
RATING_SECONDS = 1 / 400_000
# Seconds of the disentangled encoder, and of another attack on lists.
DISENTANGLING, OF_LISTS = 60.0, 0.25
# A hub-sized model is slower by its number of weights; without opening it, by this guess.
LARGE_MODEL_FACTOR = 150.0
START_SECONDS = 0.05
"""Before a training, or a round of questions, gets going."""
OTHER_TEMPLATES = 2
"""Ways of putting the question in other words that each prompt style has."""
REMEMBERED_BYTES = 200 * 2**20
"""Of a teacher's answers, which are asked for once as far as they fit: see `mia_core.models.llm.distillation`."""
SAID_OF_A_TITLE = 6.0
"""Tokens, about."""


@dataclass(frozen=True)
class Rates:
    """Seconds that one machine takes for one piece of each kind of work of an audit."""

    train: float
    """A window, each time that the target learns from it."""
    distil: float
    """The same of a copy that asks its teacher each time."""
    observe: float
    """A window that a model is asked about."""
    write: float
    """A ranked list of answers."""
    draw: float
    """An answer that is drawn at a temperature."""
    gradient: float
    """A window's own gradient."""
    rating: float
    """A rating, a negative of it, or a part of them, of a classic recommender with 100 factors."""
    answer_bytes: float
    """What a copy remembers of its teacher's answer to a window."""
    read: float | None = None
    """Reading and splitting all the data; None: by their size."""
    beside: float | None = 1.0
    """How many times as long the placebo's process takes that runs beside the audit; None: it runs afterwards."""

    @staticmethod
    def guessed(experiment: Experiment) -> Rates:
        """On two CPU cores, from the model's size."""
        base, window = experiment.base, experiment.prompt.history + 1
        factor = _size(base) * (OF_SEQUENCES if experiment.kind == "sequence" else 0.3 + 0.7 * window / 9)
        observe = factor * OBSERVE_SECONDS
        return Rates(
            train=factor * TRAIN_SECONDS,
            distil=1.3 * factor * TRAIN_SECONDS,
            observe=observe,
            write=experiment.views.list_length * observe,
            draw=observe,
            gradient=factor / 60,
            rating=RATING_SECONDS,
            answer_bytes=4 * SAID_OF_A_TITLE * base.vocabulary,
        )


def soft_stage(j: int) -> str:
    """Name of the stage that distils soft-only reference j."""
    return f"Train a copy of the target on third parties (soft reference {j + 1})"


def student_stage(fold: int) -> str:
    """Name of the stage that distils the cross-fitted student of one fold."""
    return f"Train a copy of the target on known users (student, fold {fold + 1})"


LEAKING = "Train a copy that sees who is a member (leaking student)"


def shadow_stage(k: int) -> str:
    """Name of the stage that trains shadow model k."""
    return f"Train a twin of the target on random users (shadow model {k + 1})"


SHADOW_ADAPTERS = "Train all twins of the target together (shadow adapters)"
SELF_PROMPTED = "Train a copy on the target's texts (self-prompted reference)"
ITEM_VECTORS = "Learn how items go together"
SHADOW_WORLD = "Train the auditor's own recommender"
TRAJECTORY = "Train a copy and keep every epoch (trajectory reference)"
PRIVATE_SLOWER = {"full": 5.7, "lora": 1.6}
"""Of ordinary training; see benchmarks/private_training.py."""


def shadows_together(experiment: Experiment) -> bool:
    """Whether the shadow models are adapters that share one training; those that stop early, or are trained with the target's
    defences, each have their own."""
    plain = not any(defense.where == "training" for defense in experiment.defense.chosen)
    return plain and experiment.target.tuning == "lora" and not experiment.target.training.early_stop


def observe_stage(need: str) -> str:
    """Name of the stage that asks about every scored user in one way."""
    asked, _, variant = need.partition("/")
    words = ASKED_WORDS.get(asked, asked.replace("_", " "))
    if variant:
        words = f"{words}, {VARIANT_WORDS.get(variant, variant.replace('_', ' '))}"
    return f"Ask {words}"


ASKED_WORDS = {
    "target": "the target",
    "base": "the starting model (base)",
    "soft": "the copies trained on third parties (soft references)",
    "student": "the copies trained on known users (students)",
    "leaking": "the copy that sees who is a member (leaking student)",
    "shadows": "the twins of the target (shadow models)",
    "trajectory": "the copy after every epoch (trajectory reference)",
    "self_prompted": "the copy of the target's texts (self-prompted)",
    "gradient": "the target how each answer would change it (gradients)",
    "inquiry": "the target whether it has seen the history (inquiry)",
    "lists": "for recommendations",
    "temperatures": "for the first choice, again and again (temperatures)",
    "shadow_world": "the auditor's own recommender",
}
VARIANT_WORDS = {
    "no_history": "without a history",
    "half": "after half of the history",
    "poisoned": "after strangers' items in the history (poisoned)",
    "lowercase": "in lower case",
    "after_held_out": "after examples of held-out users",
    "after_members": "after examples of members",
    "answer_swapped": "about a similar item instead",
    "history_swapped": "after a similar history",
    "template": "in other words",
    "noisy": "with noise on its inputs",
    "popular": "as published, popular items for non-members",
    "own_factors": "members by their trained vectors",
}


def needs(experiment: Experiment) -> list[str]:
    """What the chosen attacks want to be asked, in the order in which it is asked: see `mia_core.observe.views`."""
    # Imported here: the catalogue belongs to the floor below and pages import this module first.
    from mia_core.attacks.catalogue import ATTACKS

    wanted = {need.rstrip("?") for name in experiment.attacks.names for need in ATTACKS[name].needs}
    found = ["target", "base"] if experiment.kind != "recommender" else []
    models = [
        name for name in ("soft", "student", "leaking", "shadows", "trajectory", "self_prompted") if name in wanted
    ]
    return [*found, *models, *sorted(wanted - {*found, *models})]


def asked_by(name: str) -> list[str]:
    """What an attack cannot do without: the target's own answers too, unless it looks at lists alone."""
    from mia_core.attacks.catalogue import ATTACKS

    attack = ATTACKS[name]
    implied = [] if attack.needs and attack.access == "labels only" else ["target"]
    return [*implied, *sorted(need for need in attack.needs if not need.endswith("?"))]


def refusal(experiment: Experiment, name: str) -> str:
    """Why an attack cannot run on such a target, as far as the config alone tells; empty where it can."""
    return next((reason for need in asked_by(name) if (reason := impossible(experiment, need))), "")


ONLY_LISTS = frozenset({"lists", "lists/no_history", "self_prompted"})
"""What can be asked where only lists were brought along."""
EXPOSED = frozenset({"lists", "lists/popular", "lists/no_history", "shadow_world"})
"""What a recommender that ranks items shows, and what the auditor's own one does."""
OF_ITEMS = frozenset({"answer_swapped", "history_swapped", "noisy"})
"""Variants of a question that need no words."""
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
    behind = [defense.title for defense in experiment.defense.chosen if defense.where == "serving"]
    if behind and experiment.kind != "recommender" and (need == "gradient" or need.endswith("/noisy")):
        return f"needs the weights, and behind a defence in serving ({behind[0]}) there are only answers"
    if experiment.kind != "language":
        return _impossible_of_items(experiment, need)
    if need == "shadow_world" and target.source == "lists" and experiment.prompt.style == "whole_history":
        return ""
    if need == "shadow_world" or need in ("lists/popular", "lists/own_factors"):
        return (
            "needs a recommender that ranks items: base.family = 'xlnet' or 'sasrec', or target.source = 'recommender' (for "
            "lists that were brought along: prompt.style = 'whole_history')"
        )
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


def _impossible_of_items(experiment: Experiment, need: str) -> str:
    model, _, variant = need.partition("/")
    if experiment.kind == "recommender":
        shown = EXPOSED | {"lists/own_factors"}
        return "" if need in shown else "needs a model that gives probabilities, and this recommender shows lists alone"
    if need in EXPOSED:
        return ""
    if need == "lists/own_factors":
        return "needs a recommender that keeps a vector of its own for each user"
    if model in ("lists", "temperatures", "inquiry", "self_prompted"):
        return "needs a model that writes text"
    if variant and variant not in OF_ITEMS:
        return "needs a question in words, and this recommender reads items"
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


def plan(experiment: Experiment, summary: Mapping[str, Any], rates: Rates | None = None) -> list[StagePlan]:
    """The stages of a run in order, with the seconds each is likely to take.

    Args:
        summary: `Interactions.summary()`; users and interactions are read.
        rates: of the machine; by default those of two CPU cores.
    """
    work = _Work(experiment, int(summary["users"]), int(summary["interactions"]), rates or Rates.guessed(experiment))
    stages = [StagePlan(READ, work.rates.read or 0.5 + work.interactions / 400_000)]
    stages += (_recommender_stages if experiment.kind == "recommender" else _model_stages)(experiment, work)
    return [*stages, StagePlan(GATES, 1.0 + _waiting_for_placebo(experiment, summary, work.rates, stages))]


def wants_placebo(experiment: Experiment) -> bool:
    """Whether a null world belongs to this audit: not to one that is a null world, nor to a target brought along."""
    target = experiment.target
    return experiment.evaluation.placebo and target.world == "members" and not target.brought


def _waiting_for_placebo(
    experiment: Experiment, summary: Mapping[str, Any], rates: Rates, stages: list[StagePlan]
) -> float:
    """Seconds that the placebo still runs when all else is done. What comes before it begins is common to both."""
    if not wants_placebo(experiment):
        return 0.0
    target = experiment.target.model_copy(update={"world": "null"})
    evaluation = experiment.evaluation.model_copy(update={"ranked_users": 0, "map_users": 0})
    twin = experiment.model_copy(update={"target": target, "evaluation": evaluation})
    mine, its = (
        sum(stage.seconds for stage in some if stage.name not in (READ, BASE))
        for some in (stages, plan(twin, summary, rates))
    )
    return its if rates.beside is None else max(0.0, rates.beside * its - mine)


def _model_stages(experiment: Experiment, work: _Work) -> list[StagePlan]:
    from mia_core.attacks.catalogue import ATTACKS

    stages = []
    brought = experiment.target.brought
    if experiment.base.source == "offline" and not brought:
        stages.append(StagePlan(BASE, work.pretrain(experiment.base)))
    if not brought and experiment.target.serving == "weights":
        trainees = work.public / 2 if experiment.target.world == "null" else work.members
        stages.append(
            StagePlan(TARGET, work.train(trainees * work.windows, experiment.target.training) * _slower(experiment))
        )
    wanted = [need for need in needs(experiment) if not impossible(experiment, need)]
    stages += _reference_stages(experiment, work, wanted)
    if "shadow_world" in wanted:
        stages += _world_stages(experiment, work)
    stages += [StagePlan(observe_stage(need), work.ask(need)) for need in wanted]
    if experiment.evaluation.ranked_users:
        ranked = min(experiment.evaluation.ranked_users, work.members)
        # Of target and base; words of many candidates take as long to prepare as to read.
        ranking = 2 if experiment.kind == "sequence" else 4
        stages.append(StagePlan(QUALITY, ranking * work.observe(ranked * (experiment.evaluation.negatives + 1))))
    learned = sum(ATTACKS[name].learned for name in experiment.attacks.names)
    stages.append(StagePlan(ATTACK, 0.5 + 0.1 * len(experiment.attacks.names) + learned * (0.9 + work.scored / 1_000)))
    stages.append(StagePlan(REPORT, 0.5))
    if experiment.evaluation.map_users:
        mapped = min(experiment.evaluation.map_users, work.scored)
        stages.append(StagePlan(MAP, 0.5 + work.observe(mapped) + mapped / 150))
    return stages


def _slower(experiment: Experiment) -> float:
    """How many times as long training takes with its defences: gradients of each sample cost more, above all of whole weights."""
    from mia_core.defenses.training import PrivateTraining

    private = any(isinstance(defense, PrivateTraining) for defense in experiment.defense.chosen)
    return PRIVATE_SLOWER[experiment.target.tuning] if private else 1.0


def _recommender_stages(experiment: Experiment, work: _Work) -> list[StagePlan]:
    from mia_core.attacks.catalogue import ATTACKS

    wanted = [need for need in needs(experiment) if not impossible(experiment, need)]
    stages = [StagePlan(TARGET, work.recommend(experiment.recommender, work.members))]
    if "shadow_world" in wanted:
        stages += _world_stages(experiment, work)
    stages += [StagePlan(observe_stage(need), 0.2 + work.scored / 2_000) for need in wanted if need != "shadow_world"]
    if experiment.evaluation.ranked_users:
        stages.append(StagePlan(QUALITY, 0.5))
    slow = sum(
        DISENTANGLING if name.startswith("dl_mia") else OF_LISTS for name in experiment.attacks.names if name in ATTACKS
    )
    return [*stages, StagePlan(ATTACK, slow), StagePlan(REPORT, 0.5)]


def _world_stages(experiment: Experiment, work: _Work) -> list[StagePlan]:
    vectors = work.recommend(experiment.recommender, work.public / 2)
    shadow = work.recommend(experiment.shadow_recommender, work.public / 4)
    return [StagePlan(ITEM_VECTORS, vectors), StagePlan(SHADOW_WORLD, shadow)]


def _reference_stages(experiment: Experiment, work: _Work, wanted: list[str]) -> list[StagePlan]:
    config, asked = experiment.distillation, experiment.views
    stages = []
    fresh = config.student is not None or not config.warm_start or "base" not in wanted
    if fresh and STUDENTS & set(wanted):
        stages.append(StagePlan(STUDENT_BASE, work.pretrain(config.student or experiment.base)))
    if "soft" in wanted:
        seconds = work.distil(work.drawn(config.soft_windows), config.soft_training)
        stages += [StagePlan(soft_stage(j), seconds) for j in range(config.soft_references)]
    if "student" in wanted:
        known = work.known * work.windows * (1 - 1 / config.folds) / 2
        stages += [StagePlan(student_stage(k), work.student(known)) for k in range(config.folds)]
    if "leaking" in wanted:
        stages.append(StagePlan(LEAKING, work.student(work.scored * work.windows / 2)))
    if "shadows" in wanted:
        half = work.train(work.scored * work.windows / 2, experiment.target.training) * _slower(experiment)
        if shadows_together(experiment):
            stages.append(StagePlan(SHADOW_ADAPTERS, TOGETHER * experiment.attacks.shadows * half))
        else:
            stages += [StagePlan(shadow_stage(k), half) for k in range(experiment.attacks.shadows)]
    if "trajectory" in wanted:
        training = config.soft_training.model_copy(update={"epochs": asked.trajectory_epochs})
        stages.append(StagePlan(TRAJECTORY, work.distil(work.drawn(asked.trajectory_windows), training)))
    if "self_prompted" in wanted:
        drawn = work.drawn(asked.self_prompted_windows)
        seconds = work.train(drawn, asked.self_prompted_training) + drawn * work.rates.draw
        stages.append(StagePlan(SELF_PROMPTED, seconds))
    return stages


class _Work:
    """How much there is to do."""

    def __init__(self, experiment: Experiment, users: int, interactions: int, rates: Rates) -> None:
        self.experiment = experiment
        self.rates = rates
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
        student = experiment.distillation.student
        self.student_size = _size(student) / _size(experiment.base) if student is not None else 1.0

    def drawn(self, count: int) -> float:
        # Histories differ in length: the short ones run out of offsets first.
        return self.public * min(0.85 * count, 0.8 * self.offsets)

    def pretrain(self, base: Base) -> float:
        return self.train(self.public * (self.offsets + self.window) / self.window, base.pretraining)

    def train(self, windows: float, training: Training) -> float:
        return START_SECONDS + windows * training.epochs * self.rates.train

    def distil(self, windows: float, training: Training) -> float:
        """Like training, of a copy; what the teacher said of a window is remembered for later epochs where there is room."""
        remembered = min(1.0, REMEMBERED_BYTES / max(1.0, windows * self.rates.answer_bytes))
        later = remembered * self.rates.train + (1 - remembered) * self.rates.distil
        return START_SECONDS + self.student_size * windows * (self.rates.distil + (training.epochs - 1) * later)

    def recommend(self, settings: Recommender, users: float) -> float:
        return START_SECONDS + recommender_work(settings, self.ratings(users)) * self.rates.rating

    def ratings(self, users: float) -> float:
        return users * self.interactions / max(1.0, self.public + self.scored)

    def student(self, windows_per_class: float) -> float:
        config = self.experiment.distillation
        return self.distil(windows_per_class, config.phase_one) + self.distil(windows_per_class, config.phase_two)

    def ask(self, need: str) -> float:
        windows = self.scored * self.windows
        config = self.experiment.views
        if need == "gradient":
            return START_SECONDS + windows * self.rates.gradient
        if need == "temperatures":
            return START_SECONDS + len(config.temperatures) * config.repeats * windows * self.rates.draw
        if need.startswith("lists"):
            return START_SECONDS + windows * self.rates.write
        longer = 1.0 + config.shots if "/after" in need else 1.0
        return longer * len(views(self.experiment, need)) * self.observe(windows)

    def observe(self, windows: float) -> float:
        """Seconds to read one answer to each window."""
        return START_SECONDS + windows * self.rates.observe


def recommender_work(settings: Recommender, ratings: float) -> float:
    """How often a classic recommender looks at a rating, in looks at one with 100 factors."""
    rounds = {"latent_factor": settings.epochs, "neural": 5 * settings.epochs}.get(settings.kind, 0)
    return ratings * (rounds * (1 + settings.negatives) * settings.factors / 100 + 10)


def _size(base: Base) -> float:
    """Cost of one window relative to the default offline model."""
    if base.source != "offline":
        return LARGE_MODEL_FACTOR
    layers, output = base.layers * base.width**2, base.vocabulary * base.width / 8
    return START_SECONDS + 0.8 * (layers + output) / (4 * 128**2 + 4_000 * 128 / 8)
