"""Ways to make a recommender forget users: edits of a trained model, and trainings that make forgetting cheap or exact.

Pages show them: torch is loaded where one is applied, not with this module.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, TypeAdapter, ValidationError

from mia_core.seeds import derive_seed

if TYPE_CHECKING:
    from mia_core.experiment import Training
    from mia_core.observe.observations import AnswerModel, Encoded

Count = Annotated[int, Field(ge=1, le=10_000)]
Pace = Annotated[float, Field(gt=0, le=100)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Request:
    """What an edit has to go by; each call of `original` opens the trained model anew."""

    original: Callable[[], Any]
    base: AnswerModel
    """The model before fine-tuning."""
    forget: Sequence[Encoded]
    retain: Sequence[Encoded]
    strangers: Sequence[Encoded]
    """Windows of users who were never trained on."""
    training: Training
    """How the model was trained."""
    seed: int
    scratch: Path | None = None
    on_progress: Callable[[float], None] = lambda fraction: None


@dataclass(frozen=True)
class Unlearning:
    """A way to forget; fields are its settings."""

    title: ClassVar[str]
    summary: ClassVar[str]
    """One plain sentence: what it does."""
    source: ClassVar[str]
    adapters_only: ClassVar[bool] = False
    """Whether it is for LoRA targets alone."""


@dataclass(frozen=True)
class Nothing(Unlearning):
    """The model as it is: a control that the verdict has to call out.

    Formula: weights = weights of the trained model
    Fails: Always, and on purpose: it shows that the check can fail.
    """

    title: ClassVar[str] = "Nothing (control)"
    summary: ClassVar[str] = "Forgets nobody. It is here so that you can see the check fail where it should."
    source: ClassVar[str] = "a planted no-op"


@dataclass(frozen=True)
class Retraining(Unlearning):
    """The same training once more without the users. What all others are compared with.

    Formula: weights = training on members without the forgotten, same recipe and seed
    Fails: It costs as much as the first training, each time somebody asks.
    """

    title: ClassVar[str] = "Retraining without them"
    summary: ClassVar[str] = "Trains the model anew on everybody else: certain, and as dear as the first training."
    source: ClassVar[str] = "the definition of forgetting"


@dataclass(frozen=True)
class AdapterShards(Unlearning):
    """Each member trains one of several LoRA adapters over one base; who leaves costs the training of their adapter alone.

    Formula: W = W_0 + mean_k delta_k; forgetting u trains anew only the delta_k with shard(u) = k
    Source: SISA, Bourtoule et al., S&P 2021, arXiv 1912.03817; for LoRA recommenders: APA, Hu et al., arXiv 2404.10327.
    Differs: members fall into shards by a hash, so that nobody's shard depends on who else is there; adapters have equal
    weights (APA adapts them to each question) and are merged into one by their deltas' mean; no slices within a shard.
    Relations: exact. What is left after forgetting is what training without the users would have given, bit for bit.
    Fails: Adapters that saw a part of the members recommend worse, and requests that hit every shard cost a whole
        training.
    """

    title: ClassVar[str] = "Adapter shards"
    summary: ClassVar[str] = (
        "Trains an adapter for each part of the members, and anew only those that held somebody forgotten."
    )
    source: ClassVar[str] = "Bourtoule et al. 2021, arXiv 1912.03817 (SISA); Hu et al. 2024, arXiv 2404.10327 (APA)"
    adapters_only: ClassVar[bool] = True
    shards: Annotated[int, Field(ge=2, le=64)] = 4
    """Parts of the members, an adapter each."""

    def parts(self, users: Sequence[str], seed: int) -> list[list[str]]:
        """The users of each shard; somebody's shard is the same whoever else there is."""
        parts: list[list[str]] = [[] for _ in range(self.shards)]
        for user in users:
            parts[derive_seed(seed, "shard", user) % self.shards].append(user)
        return parts


@dataclass(frozen=True)
class Edit(Unlearning):
    """Changes a trained model's weights."""

    def apply(self, request: Request) -> Any:
        """A model that has forgotten, or tried to."""
        raise NotImplementedError


@dataclass(frozen=True)
class GradientAscent(Edit):
    """Raises the loss on the forgotten windows up to that of strangers, and keeps that of everybody else down.

    Formula: minimise -(1 - w) · loss(forgotten, up to strangers' loss) + w · loss(kept)
    Source: Jang et al., ACL 2023, arXiv 2210.01504: ascent until the data look like unseen data.
    Differs: a window is left alone as soon as it has reached its own bound, the base's loss on it less what fine-tuning gained
    strangers on average; everything ends when the mean has reached it. Beside each batch to forget goes one of members who
    stay.
    Fails: It hides what was learned rather than undoing it: windows next to the forgotten ones may still be known,
        and without the bound it goes too far, which gives the forgotten away as well.
    """

    title: ClassVar[str] = "Gradient ascent"
    summary: ClassVar[str] = "Trains backwards on the forgotten windows, until they look like those of strangers."
    source: ClassVar[str] = "Jang et al. 2023, arXiv 2210.01504"
    epochs: Count = 10
    """Passes over the forgotten windows, at most."""
    pace: Pace = 0.3
    """Learning rate, in that of the target's training."""
    keep_weight: Share = 0.5
    """Weight of the loss on members who stay; the rest is that of forgetting."""
    bounded: bool = True
    """Stop at the loss of strangers. Without a bound it goes on for all epochs, and too far."""

    def apply(self, request: Request) -> Any:
        """Trains backwards, within bounds."""
        from mia_core.models.llm.editing import ascend

        return ascend(self, request)


@dataclass(frozen=True)
class TeacherStudent(Edit):
    """Learns from two teachers: on forgotten windows from one that knows less of them, elsewhere from the model as it was.

    Formula: forgotten: KL(z - a · relu(z_memorised - z) || student); kept: KL(original || student) + loss
    Source: E2URec, Wang et al., arXiv 2403.03536: a copy that memorised the forgotten windows even more shows which logits
    they raised; the forgetting teacher has these lowered, z - a·relu(z_memorised - z). KL to it on forgotten windows; on
    others KL to the original and the loss on the true answer.
    Differs: what the target's training changed is updated (its own LoRA where it has one, else all weights) instead of a
    new LoRA on top; both losses from the first step on, where the authors' code begins with one pass over the forgotten
    windows alone.
    Fails: The teacher that knows less is a guess: the student may stay above strangers or fall below them, which the
        check tells apart.
    """

    title: ClassVar[str] = "Teacher and student"
    summary: ClassVar[str] = (
        "Learns the forgotten windows from a teacher that knows less of them, all others from the old model."
    )
    source: ClassVar[str] = "Wang et al. 2024, arXiv 2403.03536 (E2URec)"
    epochs: Count = 6
    """Passes over the forgotten windows."""
    pace: Pace = 0.5
    """Learning rate, in that of the target's training."""
    lowered: Annotated[float, Field(gt=0, le=100)] = 2.0
    """How far raised logits are lowered: a."""
    memorised_epochs: Count = 4
    """Further training of the copy that memorises the forgotten windows."""
    keep_weight: Share = 0.6
    """Weight of what is to be kept; the rest is that of forgetting."""

    def apply(self, request: Request) -> Any:
        """Trains a student of both teachers, which starts as the model it was."""
        from mia_core.models.llm.editing import learn_from_teachers

        return learn_from_teachers(self, request)


UNLEARNING: dict[str, type[Unlearning]] = {
    "nothing": Nothing,
    "gradient_ascent": GradientAscent,
    "teacher_student": TeacherStudent,
    "adapter_shards": AdapterShards,
    "retraining": Retraining,
}


def configured(name: str, settings: Mapping[str, Any]) -> Unlearning:
    """A way to forget with settings of its own.

    Raises:
        ValueError: there is no such way, it has no such setting, or the value does not fit.
    """
    if name not in UNLEARNING:
        near = difflib.get_close_matches(name, UNLEARNING, n=1, cutoff=0.0)[0]
        raise ValueError(f"{name!r} is no way to forget; did you mean {near!r}? There are {', '.join(UNLEARNING)}")
    fields = [field.name for field in dataclasses.fields(UNLEARNING[name])]
    for setting in settings:
        if setting not in fields:
            raise ValueError(f"{name} has no setting {setting!r}; it has {', '.join(fields) or 'none'}")
    try:
        method: Unlearning = TypeAdapter(UNLEARNING[name]).validate_python(dict(settings))
    except ValidationError as error:
        (first, *_) = error.errors()
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{name}.{place} is {first['input']!r}: {first['msg'].lower()}") from None
    return method
