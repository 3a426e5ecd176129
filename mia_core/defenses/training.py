"""Defences that change how the target is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import scipy.sparse

from mia_core.data.prompts import PROMPT_STYLES
from mia_core.defenses.contract import Defense
from mia_core.seeds import generator

if TYPE_CHECKING:
    from mia_core.data.prompts import Samples
    from mia_core.experiment import Experiment, Target
    from mia_core.models.llm.private_training import Privacy

USER_INFERENCE = "Kandpal et al. 2024, EMNLP, arXiv 2310.09266"
LORA_LEAK = "Ran et al. 2025, LoRA-Leak, arXiv 2507.18302"
SIMILARITIES_AT_ONCE = 4_000_000
"""Similarities between windows that are held at once: bounds the memory."""


def _trained_with(target: Target, **changes: Any) -> Target:
    return target.model_copy(update={"training": target.training.model_copy(update=changes)})


def _adapted_with(target: Target, **changes: Any) -> Target:
    return target.model_copy(update={"lora": target.lora.model_copy(update=changes)})


@dataclass(frozen=True)
class TrainingDefense(Defense):
    """What defences in training have in common."""

    where: ClassVar[Literal["training", "serving"]] = "training"


@dataclass(frozen=True)
class PrivateTraining(TrainingDefense):
    """Training that clips what each user or window adds to a step, or adds noise to the step, or both."""

    kinds: ClassVar[tuple[str, ...]] = ("language",)

    def refusal(self, experiment: Experiment) -> str:
        """Also refused where a step is not one draw of users, and where training may end before its last step."""
        training = experiment.target.training
        if refused := super().refusal(experiment):
            return refused
        if training.accumulation != 1:
            return (
                f"target.training.accumulation is {training.accumulation}; a step here is one draw of users or windows, "
                "worked through piece by piece anyway: set it to 1"
            )
        if training.early_stop:
            return (
                "target.training.early_stop is true; the steps are planned and counted beforehand: set it to false and "
                "target.training.epochs lower"
            )
        return ""


@dataclass(frozen=True)
class DpSgd(PrivateTraining):
    """What both units of differentially private training have in common."""

    epsilon: float = 8.0
    """Privacy budget: whatever is done with the model, nobody's odds of having been trained on move by more than e^epsilon."""
    delta: float = 1e-5
    """Chance that the bound does not hold; well below 1 / users."""
    clip: float = 1.0
    """Longest gradient that one unit may add to a step."""
    units_at_once: int = 64
    """Units in a step, on average."""
    unit: ClassVar[Literal["user", "record"]]

    def __post_init__(self) -> None:
        _above_zero(self, "epsilon", "a finite number above 0; 1 is strong, 8 usual, 50 hardly a promise")
        self.require("delta", 0 < self.delta < 1, "it must lie between 0 and 1, such as 1e-5")
        _above_zero(self, "clip", "a finite number above 0, such as 1")
        self.require("units_at_once", self.units_at_once >= 1, "it must be at least 1; 64 or more learns best")

    @property
    def privacy(self) -> Privacy:
        """Clipping, and as much noise as the budget asks for."""
        from mia_core.models.llm.private_training import Privacy

        return Privacy(self.unit, self.clip, self.epsilon, None, self.delta, self.units_at_once)

    def refusal(self, experiment: Experiment) -> str:
        """Also refused where what is promised could not be held against what the audit proves."""
        if refused := super().refusal(experiment):
            return refused
        proven = experiment.evaluation.delta
        if self.delta > proven:
            return (
                f"{self.name}.delta is {self.delta} and evaluation.delta {proven}, at which the audit's proof is made; give a "
                "delta no larger than that"
            )
        return ""


@dataclass(frozen=True)
class DpSgdUser(DpSgd):
    """Differentially private training in which the protected unit is everything of one user.

    Formula: each step: g = (sum over drawn users of clip(g_u, C) + N(0, (sigma C)² I)) / expected users; epsilon from
        sigma, sampling rate, steps and delta
    Source: Abadi et al. 2016, arXiv 1607.00133 (DP-SGD); Chua et al. 2024, arXiv 2406.14322 (users as units).
    Fails: Recommendations get worse, the more the fewer the members; the promise holds for the training that was
        counted, not for what else was learned from the same people.
    """

    name: ClassVar[str] = "dp_sgd_user"
    title: ClassVar[str] = "DP-SGD by user"
    summary: ClassVar[str] = (
        "Limits what any one person's whole data add to a training step, and drowns the rest in noise."
    )
    expected: ClassVar[str] = (
        "The only defence with an upper bound on what anybody can find out about a person; recommendations get worse. Better "
        "for the same budget than protecting single windows and multiplying up (reported)."
    )
    source: ClassVar[str] = "Chua et al. 2024, arXiv 2406.14322"
    unit: ClassVar[Literal["user", "record"]] = "user"


@dataclass(frozen=True)
class DpSgdRecord(DpSgd):
    """Differentially private training in which the protected unit is one window: somebody with several has a weaker bound.

    Formula: each step: g = (sum over drawn windows of clip(g_w, C) + N(0, (sigma C)² I)) / expected windows
    Source: Abadi et al. 2016, arXiv 1607.00133.
    Fails: A person with k windows is protected about k times less than one window is; the share found at few false
        alarms can even rise.
    """

    name: ClassVar[str] = "dp_sgd_record"
    title: ClassVar[str] = "DP-SGD by window"
    summary: ClassVar[str] = "Limits what any single window adds to a training step, and drowns the rest in noise."
    expected: ClassVar[str] = (
        "Helps in part: on e-mails the AUC of user inference fell from 0.88 to 0.65-0.68 at ε between 2 and 32, while the "
        "share of members found at 1% false alarms rose from 4% to 9-10% (measured in the literature)."
    )
    source: ClassVar[str] = USER_INFERENCE
    unit: ClassVar[Literal["user", "record"]] = "record"


@dataclass(frozen=True)
class ClipOnly(PrivateTraining):
    """Per-user clipping of DP-SGD without its noise: no privacy guarantee, but a check of what the noise is needed for.

    Formula: each step: g = sum over drawn users of clip(g_u, C) / expected users
    Source: Kandpal et al. 2024, arXiv 2310.09266 (gradient clipping as a mitigation).
    Fails: Without noise the trained weights still depend on every person: no guarantee, and no measured effect.
    """

    clip: float = 1.0
    """Longest gradient that one user may add to a step."""
    name: ClassVar[str] = "clip_only"
    title: ClassVar[str] = "Clipping without noise"
    summary: ClassVar[str] = "Limits what any one person's data add to a training step; no noise, so no guarantee."
    expected: ClassVar[str] = "No effect (measured in the literature)."
    source: ClassVar[str] = USER_INFERENCE

    def __post_init__(self) -> None:
        _above_zero(self, "clip", "a finite number above 0, such as 1")

    @property
    def privacy(self) -> Privacy:
        """Clipping alone."""
        from mia_core.models.llm.private_training import Privacy

        return Privacy("user", self.clip, None, 0.0)


@dataclass(frozen=True)
class NoiseOnly(PrivateTraining):
    """The noise of DP-SGD without its clipping: no privacy guarantee, for one person's gradient may outgrow any noise.

    Formula: each step: g = (sum over drawn users of g_u + N(0, s² I)) / expected users
    Source: Abadi et al. 2016, arXiv 1607.00133, with its clipping left out.
    Fails: Nobody's share is limited, so that a person with unusual data stays visible through the noise.
    """

    noise_multiplier: float = 1.0
    """Standard deviation of the noise, in units of a clip of 1."""
    name: ClassVar[str] = "noise_only"
    title: ClassVar[str] = "Noise without clipping"
    summary: ClassVar[str] = (
        "Adds noise to every training step; nobody's share in it is limited, so there is no guarantee."
    )
    expected: ClassVar[str] = (
        "Hides typical users about as far as it spoils the recommendations; unusual ones, with large gradients, stay "
        "visible (our expectation)."
    )
    source: ClassVar[str] = "Abadi et al. 2016, arXiv 1607.00133"

    def __post_init__(self) -> None:
        _above_zero(self, "noise_multiplier", "a finite number above 0, such as 1")

    @property
    def privacy(self) -> Privacy:
        """Noise alone."""
        from mia_core.models.llm.private_training import Privacy

        return Privacy("user", None, None, self.noise_multiplier)


@dataclass(frozen=True)
class CapRecords(TrainingDefense):
    """Trains on a few windows of everybody, drawn at random; the audit still asks about all of them.

    Formula: windows of u in training = at most k, drawn at random
    Source: Kandpal et al. 2024, arXiv 2310.09266 (capping each user's contribution).
    Fails: The windows that stay are learned as before: people with few windows gain nothing.
    """

    records: int = 1
    """Windows per user that are trained on."""
    name: ClassVar[str] = "cap_records"
    title: ClassVar[str] = "Fewer windows per user"
    summary: ClassVar[str] = "Trains on only so many windows of each person."
    expected: ClassVar[str] = (
        "Strong and cheap: planted users fell from an AUC of 0.77 to about chance with five texts each (measured in the "
        "literature)."
    )
    source: ClassVar[str] = USER_INFERENCE

    def __post_init__(self) -> None:
        self.require("records", self.records >= 1, "it must be at least 1, or nobody is trained on")

    def refusal(self, experiment: Experiment) -> str:
        """Also refused where nobody has more windows than that."""
        if refused := super().refusal(experiment):
            return refused
        if PROMPT_STYLES[experiment.prompt.style].whole:
            return "everybody's whole history is one window; lower prompt.history instead, which shortens it"
        if self.records >= experiment.prompt.windows:
            return (
                f"{self.name}.records is {self.records} and prompt.windows {experiment.prompt.windows}, so nothing would be "
                "left out; give fewer records, or more windows"
            )
        return ""

    def windows(self, samples: Samples, seed: int) -> Samples:
        """At most so many of each user, in their old order; what is drawn for one user does not depend on the others."""
        order = np.argsort(samples.user_index, kind="stable")
        ends = np.cumsum(samples.counts())[:-1]
        kept = [
            generator(seed, self.name, user).permutation(mine)[: self.records]
            for user, mine in zip(samples.users, np.split(order, ends), strict=True)
        ]
        return samples.take(np.sort(np.concatenate([*kept, np.zeros(0, np.int64)])))


@dataclass(frozen=True)
class Deduplicate(TrainingDefense):
    """Trains on one of several windows that hold the same, or nearly the same, items in any order.

    Windows are gone through in an order drawn at random; one goes if a window that stayed is a copy of it. So no two that
    stay are copies, and each that goes has a copy that stays. Somebody whose every window goes is not trained on.

    Formula: a window goes if cos(items, items of one that stayed) >= the threshold
    Source: Lee et al. 2022, arXiv 2107.06499 (near duplicates by the overlap of sets).
    Differs: exact cosine of the sets of items instead of hashes.
    Fails: Where nobody repeats anybody there is nothing to take out.
    """

    similarity: float = 1.0
    """Cosine between two windows' sets of items from which on they are copies; 1: the same items."""
    within: bool = True
    """Whether windows of one user are compared."""
    across: bool = True
    """Whether windows of different users are."""
    name: ClassVar[str] = "deduplicate"
    title: ClassVar[str] = "Without duplicates"
    summary: ClassVar[str] = "Trains on only one of several windows with the same, or nearly the same, items."
    expected: ClassVar[str] = (
        "Some effect where people repeat themselves: an AUC of 0.66 fell to 0.59 when each user's near duplicates were "
        "taken out (measured in the literature)."
    )
    source: ClassVar[str] = USER_INFERENCE

    def __post_init__(self) -> None:
        self.require(
            "similarity", 0 < self.similarity <= 1, "it must be above 0 and at most 1, where only equals count"
        )
        self.require("across", self.within or self.across, "and within, too, so nothing is compared: set one to true")

    def refusal(self, experiment: Experiment) -> str:
        """Also refused where there is one window each, and only windows of one user are compared."""
        if refused := super().refusal(experiment):
            return refused
        alone = PROMPT_STYLES[experiment.prompt.style].whole or experiment.prompt.windows == 1
        if alone and not self.across:
            return f"{self.name}.across is false, and everybody has one window, so there is nothing to compare; set it to true"
        return ""

    def windows(self, samples: Samples, seed: int) -> Samples:
        """Those that stay, in their old order."""
        order = generator(seed, self.name).permutation(len(samples))
        copies = self._later_copies(_item_sets(samples, order), samples.user_index[order])
        stays = np.ones(len(order), dtype=bool)
        for i in np.flatnonzero(np.diff(copies.indptr)):
            if stays[i]:
                stays[copies.indices[copies.indptr[i] : copies.indptr[i + 1]]] = False
        return samples.take(np.sort(order[stays]))

    def _later_copies(self, sets: scipy.sparse.csr_array, owner: np.ndarray) -> scipy.sparse.csr_array:
        """(n, n) not 0 where the column is a copy of the row and comes after it."""
        columns = sets.T.tocsr()
        rows, found = [], []
        size = max(1, SIMILARITIES_AT_ONCE // max(1, sets.shape[0]))
        for start in range(0, sets.shape[0], size):
            cosine = (sets[start : start + size] @ columns).tocoo()
            row, column = cosine.coords[0] + start, cosine.coords[1]
            same = owner[row] == owner[column]
            copy = (column > row) & (cosine.data >= self.similarity - 1e-9) & np.where(same, self.within, self.across)
            rows.append(row[copy])
            found.append(column[copy])
        pairs = (np.concatenate([*rows, np.zeros(0, np.int64)]), np.concatenate([*found, np.zeros(0, np.int64)]))
        return scipy.sparse.csr_array((np.ones(len(pairs[0])), pairs), shape=(len(owner), len(owner)))


def _item_sets(samples: Samples, order: np.ndarray) -> scipy.sparse.csr_array:
    """(n, items) the windows in this order, as sets of items scaled to length 1."""
    sets = [sorted({event.item for event in samples.windows[i]}) for i in order]
    number: dict[str, int] = {}
    columns = [number.setdefault(item, len(number)) for items in sets for item in items]
    sizes = np.array([len(items) for items in sets], dtype=np.int64)
    values = np.repeat(1 / np.sqrt(np.maximum(sizes, 1)), sizes)
    return scipy.sparse.csr_array(
        (values, columns, np.concatenate([[0], np.cumsum(sizes)])), shape=(len(sets), len(number))
    )


@dataclass(frozen=True)
class EarlyStopping(TrainingDefense):
    """Ends training when it no longer helps public users, whose windows are held back from it.

    Formula: stop once the loss on held-back public windows has not fallen for so many epochs
    Source: Kandpal et al. 2024, arXiv 2310.09266 (early stopping as a mitigation).
    Differs: the held-back users are those who pre-trained an offline base, which therefore knows them: it stops sooner than
    with people it never met.
    Fails: Most of what leaks is learned early; and people who trained the base make it stop sooner than strangers
        would.
    """

    patience: int = 1
    """Epochs without a fall of the loss on public users before training ends."""
    name: ClassVar[str] = "early_stopping"
    title: ClassVar[str] = "Early stopping"
    summary: ClassVar[str] = "Ends training once it no longer gets better on people it does not learn from."
    expected: ClassVar[str] = (
        "Limited: most of what leaks has leaked after 5-18% of the training (measured in the literature)."
    )
    source: ClassVar[str] = USER_INFERENCE

    def __post_init__(self) -> None:
        self.require("patience", self.patience >= 1, "it must be at least 1")

    def refusal(self, experiment: Experiment) -> str:
        """Also refused where training ends early anyhow, or is too short for it."""
        if refused := super().refusal(experiment):
            return refused
        training = experiment.target.training
        if training.early_stop:
            return "target.training.early_stop is true already, so there is nothing to compare it with; set it to false there"
        if self.patience + 1 >= training.epochs:
            return (
                f"{self.name}.patience is {self.patience} and target.training.epochs {training.epochs}, too few to stop "
                "early; give more epochs, or fewer_epochs instead"
            )
        return ""

    def settings(self, target: Target) -> Target:
        """With `early_stop`."""
        return _trained_with(target, early_stop=True, patience=self.patience)


@dataclass(frozen=True)
class FewerEpochs(TrainingDefense):
    """Goes through the training data fewer times; the learning rate falls to 0 over these.

    Formula: epochs of fine-tuning = n
    Source: Kandpal et al. 2024, arXiv 2310.09266 (leakage by share of the training).
    Fails: Most of what leaks is learned in the first epochs, when the recommendations get better as well.
    """

    share: float = 0.5
    """Of the epochs; at least one is left."""
    name: ClassVar[str] = "fewer_epochs"
    title: ClassVar[str] = "Fewer epochs"
    summary: ClassVar[str] = "Goes through the training data fewer times."
    expected: ClassVar[str] = (
        "Limited: 95% of the AUC at the end was reached after 5-18% of the training (measured in the literature)."
    )
    source: ClassVar[str] = USER_INFERENCE

    def __post_init__(self) -> None:
        self.require("share", 0 < self.share < 1, "it must lie between 0 and 1; 0.5 halves the epochs")

    def epochs(self, target: Target) -> int:
        """How many are left."""
        return max(1, round(self.share * target.training.epochs))

    def refusal(self, experiment: Experiment) -> str:
        """Also refused where that leaves as many as before."""
        if refused := super().refusal(experiment):
            return refused
        epochs = experiment.target.training.epochs
        if self.epochs(experiment.target) == epochs:
            return (
                f"{self.name}.share is {self.share} and target.training.epochs {epochs}, which leaves {epochs}; give a "
                "smaller share, or more epochs"
            )
        return ""

    def settings(self, target: Target) -> Target:
        """With these epochs."""
        return _trained_with(target, epochs=self.epochs(target))


@dataclass(frozen=True)
class LoraDefense(TrainingDefense):
    """What defences that change the adapters have in common."""

    kinds: ClassVar[tuple[str, ...]] = ("language",)

    def refusal(self, experiment: Experiment) -> str:
        """Also refused where there are no adapters."""
        if refused := super().refusal(experiment):
            return refused
        tuning = experiment.target.tuning
        return "" if tuning == "lora" else f'target.tuning is "{tuning}", so there are no adapters; set it to "lora"'


@dataclass(frozen=True)
class LoraRank(TrainingDefense):
    """Adapters of low rank, instead of whole weights or of larger adapters.

    Formula: W = W_0 + (alpha / r) B A, with r rows
    Source: Wang, Li 2025, arXiv 2506.20856 (adapters against full tuning).
    Differs: where there were adapters, alpha is lowered with the rank, so that what one learns is weighed as before.
    Fails: Few numbers are enough to remember the most unusual people: what is left at low false-alarm rates is
        theirs.
    """

    rank: int = 4
    """Of the adapters."""
    name: ClassVar[str] = "lora_rank"
    title: ClassVar[str] = "Small adapters"
    summary: ClassVar[str] = "Tunes small adapters, which leave the model less room to learn anything by heart."
    expected: ClassVar[str] = (
        "Adapters instead of full tuning leak much less at low false-alarm rates, though not nothing (reported); how much "
        "a lower rank adds to that is small (our expectation)."
    )
    source: ClassVar[str] = "Wang, Li 2025, arXiv 2506.20856"
    kinds: ClassVar[tuple[str, ...]] = ("language",)

    def __post_init__(self) -> None:
        self.require("rank", self.rank >= 1, "it must be at least 1")

    def refusal(self, experiment: Experiment) -> str:
        """Also refused where the rank is as low already."""
        target = experiment.target
        lower = target.tuning == "full" or self.rank < target.lora.rank
        return super().refusal(experiment) or (
            "" if lower else _no_change(self, "rank", "lora.rank", target.lora.rank, "lower")
        )

    def settings(self, target: Target) -> Target:
        """With such adapters."""
        lora = target.lora
        changed = _adapted_with(target, rank=self.rank, alpha=lora.alpha * self.rank / lora.rank)
        return changed.model_copy(update={"tuning": "lora"})


@dataclass(frozen=True)
class LoraDropout(LoraDefense):
    """Leaves out random parts of what goes into the adapters in every step of training.

    Formula: in training: W x = W_0 x + (alpha / r) B A dropout(x)
    Source: Ran et al. 2025, arXiv 2507.18302.
    Fails: It slows learning by heart but does not end it: with more epochs the effect goes.
    """

    dropout: float = 0.3
    """Share that is left out."""
    name: ClassVar[str] = "lora_dropout"
    title: ClassVar[str] = "Dropout in adapters"
    summary: ClassVar[str] = "Leaves out random parts of the adapters' input while they learn."
    expected: ClassVar[str] = (
        "Helps, and the model stays useful: one of two such defences out of four tried (reported)."
    )
    source: ClassVar[str] = LORA_LEAK

    def __post_init__(self) -> None:
        self.require("dropout", 0 < self.dropout < 1, "it must lie between 0 and 1, such as 0.3")

    def refusal(self, experiment: Experiment) -> str:
        """Also refused where the dropout is as high already."""
        now = experiment.target.lora.dropout
        return super().refusal(experiment) or (
            "" if self.dropout > now else _no_change(self, "dropout", "lora.dropout", now, "higher")
        )

    def settings(self, target: Target) -> Target:
        """With this dropout."""
        return _adapted_with(target, dropout=self.dropout)


@dataclass(frozen=True)
class SkipLayers(TrainingDefense):
    """Leaves the last blocks of each stack as they were before fine-tuning, adapters in them included.

    Formula: W_l stays W_l before fine-tuning, for the topmost l
    Source: Ran et al. 2025, arXiv 2507.18302 (layers left out of fine-tuning).
    Differs: always the topmost ones; embeddings and the last norm are tuned as before, where the whole model is.
    Fails: The layers below learn what the frozen ones do not; with embeddings tuned, rare items are learned there.
    """

    layers: int = 1
    """How many of each stack: of a T5, of the encoder and of the decoder."""
    name: ClassVar[str] = "skip_layers"
    title: ClassVar[str] = "Top layers left alone"
    summary: ClassVar[str] = "Tunes fewer layers: the topmost ones stay as they were before."
    expected: ClassVar[str] = (
        "Helps, and the model stays useful: one of two such defences out of four tried (reported)."
    )
    source: ClassVar[str] = LORA_LEAK

    def __post_init__(self) -> None:
        self.require("layers", self.layers >= 1, "it must be at least 1")

    def refusal(self, experiment: Experiment) -> str:
        """Also refused where no layer would be left to train, or none was trained before."""
        if refused := super().refusal(experiment):
            return refused
        base = experiment.base
        if experiment.target.start == "scratch":
            return 'target.start is "scratch", so no layer was trained before; set it to "base"'
        stack = base.layers // 2 if base.family == "t5" else base.layers
        if base.source == "offline" and self.layers >= stack:
            return (
                f"{self.name}.layers is {self.layers}, and a stack of this {base.family} has {stack}, of which one must be "
                "left to train; give fewer, or a higher base.layers"
            )
        return ""

    def prepared(self, model: Any) -> Any:
        """With the topmost blocks frozen.

        Raises:
            ConfigError: a stack has no more blocks than that.
        """
        from mia_core.models.llm.layers import freeze_topmost, layer_stacks

        shortest = min(len(stack) for stack in layer_stacks(model.plain_network))
        one_left = f"a stack of the model has {shortest} layers, of which one must be left to train; give fewer"
        self.require("layers", self.layers < shortest, one_left)
        freeze_topmost(model.plain_network, self.layers)
        return model


@dataclass(frozen=True)
class WeightDecay(TrainingDefense):
    """Pulls the trained weights towards 0 in every step.

    Formula: each step: W = (1 - lr · lambda) W - lr · step
    Source: Loshchilov, Hutter 2019, arXiv 1711.05101 (decoupled weight decay).
    Fails: It keeps all weights small and no single person out of them.
    """

    weight_decay: float = 0.1
    """Share of the learning rate by which a weight shrinks in a step."""
    name: ClassVar[str] = "weight_decay"
    title: ClassVar[str] = "Weight decay"
    summary: ClassVar[str] = "Pulls the weights towards zero while they learn."
    expected: ClassVar[str] = "Small effect (our expectation)."
    source: ClassVar[str] = "Loshchilov, Hutter 2019, arXiv 1711.05101"

    def __post_init__(self) -> None:
        _above_zero(self, "weight_decay", "a finite number above 0, such as 0.1")

    def refusal(self, experiment: Experiment) -> str:
        """Also refused where the weights decay as much already."""
        now = experiment.target.training.weight_decay
        return super().refusal(experiment) or (
            "" if self.weight_decay > now else _no_change(self, "weight_decay", "training.weight_decay", now, "higher")
        )

    def settings(self, target: Target) -> Target:
        """With this decay."""
        return _trained_with(target, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class LabelSmoothing(TrainingDefense):
    """Trains towards the true answer with a little of every other answer mixed in.

    Formula: loss = (1 - e) · CE(true answer) + e · mean over the vocabulary of CE
    Source: Szegedy et al. 2016, arXiv 1512.00567.
    Fails: It changes which statistic gives members away, not whether one does: look at all attacks.
    """

    smoothing: float = 0.1
    """Share that is spread evenly over all tokens."""
    name: ClassVar[str] = "label_smoothing"
    title: ClassVar[str] = "Label smoothing"
    summary: ClassVar[str] = "Trains the model to be a little less sure of every answer."
    expected: ClassVar[str] = (
        "Small effect; it may change which attack works best, so look at all of them, not at one (our expectation)."
    )
    source: ClassVar[str] = "Szegedy et al. 2016, arXiv 1512.00567"

    def __post_init__(self) -> None:
        self.require("smoothing", 0 < self.smoothing < 1, "it must lie between 0 and 1, such as 0.1")

    def refusal(self, experiment: Experiment) -> str:
        """Also refused where labels are smoothed as much already."""
        now = experiment.target.training.label_smoothing
        return super().refusal(experiment) or (
            "" if self.smoothing > now else _no_change(self, "smoothing", "training.label_smoothing", now, "higher")
        )

    def settings(self, target: Target) -> Target:
        """With this smoothing."""
        return _trained_with(target, label_smoothing=self.smoothing)


def _above_zero(defense: Defense, field: str, allowed: str) -> None:
    value = getattr(defense, field)
    defense.require(field, math.isfinite(value) and value > 0, f"it must be {allowed}")


def _no_change(defense: Defense, field: str, setting: str, now: float, way: str) -> str:
    value = getattr(defense, field)
    return f"{defense.name}.{field} is {value} and target.{setting} {now} already; give a {way} {field}"
