"""What every defence is: a frozen dataclass whose fields are its settings, with one method for each place where it can act."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mia_core.errors import ConfigError

if TYPE_CHECKING:
    from mia_core.data.prompts import Samples
    from mia_core.experiment import Experiment, Recommender, Target
    from mia_core.models.llm.private_training import Privacy

KINDS = {"language": "language model", "sequence": "sequence recommender", "recommender": "classic recommender"}
"""What a target can be, in words."""


@dataclass(frozen=True)
class Defense:
    """A defence that does nothing. Adding one: a frozen dataclass that overrides what it changes, and one line in `DEFENSES`.

    A defence changes the target and, because whoever attacks may know of it, every model that is trained to be like it.
    """

    name: ClassVar[str]
    """What configs call it."""
    title: ClassVar[str]
    summary: ClassVar[str]
    """One plain sentence: what it does."""
    expected: ClassVar[str]
    """What it is known to do against membership inference, and how well that is known: measured in the literature,
    reported (a finding that was read second-hand), or our expectation."""
    source: ClassVar[str]
    where: ClassVar[Literal["training", "serving"]]
    """Whether it changes the model or only what is shown of it."""
    kinds: ClassVar[tuple[str, ...]] = ("language", "sequence")
    """Which kinds of target it is for."""

    def refusal(self, experiment: Experiment) -> str:
        """Why it cannot be used in this audit, and what to do; empty where it can."""
        target = experiment.target
        if experiment.kind not in self.kinds:
            suited = " or a ".join(KINDS[kind] for kind in self.kinds)
            return f"the target is a {KINDS[experiment.kind]}, and it is for a {suited}; leave it out"
        if target.source == "lists":
            return 'target.source is "lists": what was served is there already, nothing can be changed; leave it out'
        if self.where == "training" and target.source == "own":
            return 'target.source is "own": nothing is trained here; train it with the defence yourself, or use "fine-tune"'
        if self.where == "training" and target.serving == "prompt":
            return 'target.serving is "prompt": nothing is trained on the members; leave it out, or choose "weights"'
        return ""

    def settings(self, target: Target) -> Target:
        """How the target is trained."""
        return target

    @property
    def spared_share(self) -> float:
        """Share of the users, those at most risk, who are not trained on."""
        return 0.0

    def windows(self, samples: Samples, seed: int) -> Samples:
        """What is left of the windows that it is trained on."""
        return samples

    def prepared(self, model: Any) -> Any:
        """The model right before training, its LoRA adapters in it already."""
        return model

    @property
    def privacy(self) -> Privacy | None:
        """Clipping and noise in training, where it takes some."""
        return None

    def served(self, model: Any, seed: int) -> Any:
        """What the world may ask in place of the model."""
        return model

    def lists(self, recommender: Recommender) -> Recommender:
        """How a classic recommender draws up its lists."""
        return recommender

    def require(self, field: str, fits: bool, allowed: str) -> None:
        """Refuses a field's value.

        Raises:
            ConfigError: it does not fit.
        """
        if not fits:
            raise ConfigError(f"{self.name}.{field} is {getattr(self, field)!r}; {allowed}")
