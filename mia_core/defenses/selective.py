"""A defence for some: whoever stands to lose most is not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mia_core.defenses.training import TrainingDefense

if TYPE_CHECKING:
    from mia_core.experiment import Experiment


@dataclass(frozen=True)
class SpareTheRiskiest(TrainingDefense):
    """Leaves the users at most risk out of training. They stay members of the audit: it shows whether they are still found.

    Formula: risk(u) = regression on the history, fitted on known members; the share with the highest risk is not
        trained on
    Source: choosing by a risk score whom to protect, as RecPS (arXiv 2507.18365) proposes; the onion effect that it may have
        after Carlini et al. 2022, arXiv 2206.10469. Differs: the risk is foretold from a user's history by a regression on
        known members, see `mia_core.defenses.risk`, so that being spared says nothing of anybody audited.
    Fails: When the most exposed are gone others are the most exposed (the onion effect), and being spared itself says
        something about a person.
    """

    share: float = 0.1
    """Of those who would train the target."""
    name: ClassVar[str] = "spare_the_riskiest"
    title: ClassVar[str] = "The riskiest spared"
    summary: ClassVar[str] = "Does not train on the people who would stand out most."
    expected: ClassVar[str] = (
        "The most exposed are hidden, but without them others stand out who did not before, the onion effect (reported)."
    )
    source: ClassVar[str] = "Carlini et al. 2022, arXiv 2206.10469"
    kinds: ClassVar[tuple[str, ...]] = ("language",)

    def __post_init__(self) -> None:
        self.require("share", 0 < self.share < 1, "it must lie between 0 and 1, such as 0.1")

    def refusal(self, experiment: Experiment) -> str:
        """Also refused where there are no weights of before to tell the risk by."""
        if refused := super().refusal(experiment):
            return refused
        if experiment.target.start == "scratch":
            return 'target.start is "scratch", so there is no model of before to tell the risk by; set it to "base"'
        return ""

    @property
    def spared_share(self) -> float:
        """As given."""
        return self.share
