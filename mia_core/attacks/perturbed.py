"""Attacks that ask the target again with something changed: what it learned by heart suffers from the change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mia_core.attacks.evidence import Evidence
from mia_core.attacks.logit_attack import LogitAttack, TunedAttack, fall, log_likelihood, loss_ratio
from mia_core.observe.views import NOISE_DRAWS

MATTERN = "Mattern et al. 2023, arXiv 2305.18462"


@dataclass(frozen=True)
class Recall(LogitAttack):
    """Loss after other people's prompts, who were not trained on, over the loss without them.

    Formula: s(u) = mean over windows of loss(answer | strangers' examples + history) / loss(answer | history)
    Source: Xie et al. 2024, arXiv 2406.15968 (ReCaLL), a ratio of two negative log-likelihoods. A foreign context
    disturbs what was learned by heart: a member's loss rises by a larger factor, so higher = member as it stands.
    Fails: Small models that never saw several examples in a row lose their way in any long prompt, members or not.
    """

    title: ClassVar[str] = "ReCaLL"
    summary: ClassVar[str] = "How much the loss rises when examples of untrained users stand before the question."
    passes: ClassVar[str] = "2 on the target"
    source: ClassVar[str] = "Xie et al. 2024, arXiv 2406.15968"
    needs: ClassVar[frozenset[str]] = frozenset({"target/after_held_out"})

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) ratio of the losses."""
        return loss_ratio(evidence, "target/after_held_out", "target")


@dataclass(frozen=True)
class ConRecall(TunedAttack):
    """Loss after held-out users' prompts minus gamma times the loss after members' prompts, over the loss alone.

    Formula: s(u) = mean of [loss(x | strangers) - g · loss(x | members)] / loss(x), g chosen on known users from 0.1
        to 1
    Source: Wang et al. 2025, arXiv 2409.03363 (Con-ReCall); gamma of 0.1 to 1 is chosen on the known users.
    Fails: As with `recall`, the model has to read several examples in a row; g is fitted on few known users.
    """

    gammas: tuple[float, ...] = tuple(k / 10 for k in range(1, 11))
    """Weights of the members' context to choose from."""

    title: ClassVar[str] = "Con-ReCall"
    summary: ClassVar[str] = "Whether examples of untrained users disturb the model more than examples of members do."
    passes: ClassVar[str] = "3 on the target"
    source: ClassVar[str] = "Wang et al. 2025, arXiv 2409.03363"
    needs: ClassVar[frozenset[str]] = frozenset({"target/after_held_out", "target/after_members"})

    def candidates(self, evidence: Evidence) -> np.ndarray:
        """(n_samples, n_gammas) contrast of the two ratios."""
        held_out = loss_ratio(evidence, "target/after_held_out", "target")
        members = loss_ratio(evidence, "target/after_members", "target")
        return held_out[:, None] - np.array(self.gammas) * members[:, None]


class AlteredAttack(LogitAttack):
    """What attacks share that subtract the target's mean log-likelihood under several alterations of a sample."""

    altered: ClassVar[str]
    """The variant that alters it."""

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) drop in mean log-probability, nats per token."""
        return fall(evidence, "target", self.altered)


@dataclass(frozen=True)
class Neighbourhood(AlteredAttack):
    """Log-likelihood of the true answer minus that of similar items in its place.

    Formula: s(u) = mean over windows of LL(answer) - mean over similar items of LL(item in its place)
    Source: Mattern et al. 2023, arXiv 2305.18462.
    Differs: a neighbour is an item that the same public users have, not a text with words replaced.
    Fails: It finds only what the model knows better than similar items: titles that are hard to spell score low
        whoever was trained on.
    """

    title: ClassVar[str] = "Neighbourhood"
    summary: ClassVar[str] = "How much likelier the true next item is than similar items in its place."
    passes: ClassVar[str] = "1 on the target, 1 more per neighbour"
    source: ClassVar[str] = MATTERN
    needs: ClassVar[frozenset[str]] = frozenset({"target/answer_swapped"})
    altered: ClassVar[str] = "answer_swapped"


@dataclass(frozen=True)
class NeighbourhoodMinusBase(LogitAttack):
    """The neighbourhood difference of the target minus that of the base.

    Formula: s(u) = [LL(answer) - mean LL(similar items)]_target - the same_base
    Source: Mattern et al. 2023, arXiv 2305.18462, with the base as reference.
    Differs: titles differ in how easily they are spelled; the base knows as much, and what it knows is taken away.
    Fails: Similar items that members have, too, are learned along with the answer and hide it.
    """

    title: ClassVar[str] = "Neighbourhood minus base"
    summary: ClassVar[str] = "How far fine-tuning set the true next item apart from similar items."
    passes: ClassVar[str] = "1 on the target and on the base, each again per neighbour"
    source: ClassVar[str] = f"after {MATTERN}, base as reference"
    needs: ClassVar[frozenset[str]] = frozenset({"base", "target/answer_swapped", "base/answer_swapped"})

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) difference of two drops, nats per token."""
        return fall(evidence, "target", "answer_swapped") - fall(evidence, "base", "answer_swapped")


@dataclass(frozen=True)
class NoisyNeighbours(TunedAttack):
    """Mean rise of the loss when noise is added to the input embeddings.

    Formula: s(u) = mean over noisy copies of LL(x) - LL(x with N(0, sigma²) added to the embeddings), sigma chosen on
        known users
    Source: Galli et al. 2024, arXiv 2406.16565.
    Differs: the level of the noise is chosen on the known users; a rise of the loss, not of the perplexity, so that one
    unlikely title does not drown the others.
    Fails: Models trained with dropout are robust to noise for everybody; the level is fitted on known users.
    """

    title: ClassVar[str] = "Noisy neighbours"
    summary: ClassVar[str] = "How much the answer suffers when the model's input is blurred."
    passes: ClassVar[str] = "1 on the target, 1 more per noisy copy"
    source: ClassVar[str] = "Galli et al. 2024, arXiv 2406.16565"
    needs: ClassVar[frozenset[str]] = frozenset({"target/noisy"})

    def candidates(self, evidence: Evidence) -> np.ndarray:
        """(n_samples, n_levels) mean rise of the loss, nats per token."""
        copies = [observed.sample_mean("log_probability") for observed in evidence.replicates("target/noisy")]
        levels = np.reshape(copies, (-1, NOISE_DRAWS, len(evidence.user_index))).mean(axis=1)
        return (log_likelihood(evidence, "target") - levels).T


@dataclass(frozen=True)
class TemplateSensitivity(AlteredAttack):
    """Mean drop of the answer's log-likelihood when the same question is put in other words.

    Formula: s(u) = mean over wordings of LL(answer | question) - LL(answer | question in other words)
    Source: after Mattern et al. 2023, arXiv 2305.18462, with prompts as neighbours.
    Differs: a drop keeps its sign where a standard deviation would not: learning shows most in the wording that was
    trained on.
    Fails: A model that saw one wording only falls for everybody in any other; one that was trained on many does not
        fall at all.
    """

    title: ClassVar[str] = "Template sensitivity"
    summary: ClassVar[str] = "How much the answer suffers when the same question is put in other words."
    passes: ClassVar[str] = "1 on the target, 1 more per wording"
    source: ClassVar[str] = f"after {MATTERN}, wordings as neighbours"
    needs: ClassVar[frozenset[str]] = frozenset({"target/template"})
    altered: ClassVar[str] = "template"


@dataclass(frozen=True)
class HistorySwapSensitivity(AlteredAttack):
    """Mean drop of the answer's log-likelihood when items of the history are swapped for similar ones.

    Formula: s(u) = mean over altered histories of LL(answer | history) - LL(answer | history with similar items
        swapped in)
    Source: after Mattern et al. 2023, arXiv 2305.18462, with histories as neighbours.
    Relations: `self_prompted` compares the same fall, in probability, with that of a reference.
    Fails: A recommender ought to react to the history: the fall is large for everybody whose taste is clear-cut.
    """

    title: ClassVar[str] = "History-swap sensitivity"
    summary: ClassVar[str] = "How much the answer suffers when items of the history are swapped for similar ones."
    passes: ClassVar[str] = "1 on the target, 1 more per altered history"
    source: ClassVar[str] = f"after {MATTERN}, histories as neighbours"
    needs: ClassVar[frozenset[str]] = frozenset({"target/history_swapped"})
    altered: ClassVar[str] = "history_swapped"
