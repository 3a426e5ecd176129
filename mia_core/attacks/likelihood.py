"""Attacks that look at the target's own answer probabilities, nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mia_core.attacks.contract import HONEST
from mia_core.attacks.evidence import Evidence, Known
from mia_core.errors import ConfigError

if TYPE_CHECKING:
    from mia_core.observe.observations import Observations

CARLINI = "Carlini et al. 2021, arXiv 2012.07805"
RENYI = "Li et al. 2024, arXiv 2411.02902"
DC_PDD = "Zhang et al. 2024, arXiv 2409.14781"
NEARLY_CERTAIN = float(np.float32(1 - 1e-7))
"""Largest p of which log(1 − p) is taken; the observations sum p·log(1 − p) up to the same bound."""


def sample_of_token(observed: Observations) -> np.ndarray:
    """(total,) which sample each token belongs to."""
    return np.repeat(np.arange(len(observed)), np.diff(observed.offsets))


def lowest_mean(observed: Observations, values: np.ndarray, share: float, by: np.ndarray | None = None) -> np.ndarray:
    """(n,) mean of `values` over the `share` of each sample's tokens that are lowest in `by`, at least one token.

    Args:
        values: (total,) one value per token.
        by: (total,) what the tokens are ranked by; the values themselves if not given.
    """
    lengths = np.diff(observed.offsets)
    sample = sample_of_token(observed)
    ordered = values[np.lexsort((values if by is None else by, sample))].astype(np.float64)
    taken = np.maximum(1, (share * lengths).astype(np.int64))
    place = np.arange(len(ordered)) - np.repeat(observed.offsets[:-1], lengths)
    lowest = np.where(place < np.repeat(taken, lengths), ordered, 0.0)
    return np.bincount(sample, lowest, minlength=len(lengths)) / taken


def min_k_plus_plus(observed: Observations, share: float = 0.2) -> np.ndarray:
    """(n,) mean of each sample's lowest `share` of standardised token log-probabilities, at least one token.

    Source: Zhang et al. 2025, arXiv 2404.02936: (log p - mean) / deviation over the vocabulary; the mean of log p
    under p is minus the entropy.
    Differs: at least one token is taken, so that short titles have a value.
    """
    standardised = (observed.log_probability + observed.entropy) / np.maximum(observed.deviation, 1e-6)
    return lowest_mean(observed, standardised, share)


def log_likelihood(evidence: Evidence, view: str) -> np.ndarray:
    """(n_samples,) mean log-probability of each answer under one view; under several of a kind, their mean."""
    asked = [evidence.views[view]] if view in evidence.views else evidence.replicates(view)
    return np.mean([observed.sample_mean("log_probability") for observed in asked], axis=0)


def loss_ratio(evidence: Evidence, above: str, below: str, floor: float = 0.01) -> np.ndarray:
    """(n_samples,) loss of each answer under one view over its loss under another.

    Both get `floor` nats added: where both views are certain of the answer the ratio is 1, not zero by zero.
    """
    return (floor - log_likelihood(evidence, above)) / (floor - log_likelihood(evidence, below))


class LogitAttack:
    """What attacks on answer probabilities share: one score per sample, averaged over the user's samples."""

    access: ClassVar[str] = "logits"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 on the target"
    needs: ClassVar[frozenset[str]] = frozenset()
    learned: ClassVar[bool] = False

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) score of each sample, higher = likelier member."""
        raise NotImplementedError

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) mean score of the user's samples."""
        return audited.user_mean(self.sample_scores(audited))


class TunedAttack(LogitAttack):
    """A score with a setting that the known users choose: of several candidates the one with the highest AUC.

    Scores are given in standard deviations from the mean of the known non-members under the chosen setting, so that
    users who were judged under different choices (out of fold) can be compared.
    """

    learned: ClassVar[bool] = True

    def candidates(self, evidence: Evidence) -> np.ndarray:
        """(n_samples, n_candidates) score of each sample under each setting, higher = likelier member."""
        raise NotImplementedError

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) mean score of the user's samples under the chosen setting, standardised by known non-members."""
        means = known.evidence.user_mean(self.candidates(known.evidence))
        scorable = ~np.isnan(means).any(axis=1)
        means, member = means[scorable], known.member[scorable]
        chosen = int(np.argmax([roc_auc_score(member, column) for column in means.T]))
        outside = means[~member, chosen]
        return (audited.user_mean(self.candidates(audited)[:, chosen]) - outside.mean()) / max(outside.std(), 1e-9)


@dataclass(frozen=True)
class Loss(LogitAttack):
    """Mean log-probability of the user's answers under the target.

    Source: Yeom et al. 2018, arXiv 1709.01604 (loss threshold).
    Differs: averaged over a user's windows instead of one record.
    """

    title: ClassVar[str] = "Loss"
    summary: ClassVar[str] = "How likely the model finds the user's true next items."
    source: ClassVar[str] = "Yeom et al. 2018, arXiv 1709.01604"

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) mean log-probability, nats per token."""
        return log_likelihood(evidence, "target")


@dataclass(frozen=True)
class Perplexity(LogitAttack):
    """Minus the perplexity of the user's answers: the exponential of each answer's mean loss.

    Source: Carlini et al. 2021, arXiv 2012.07805.
    Differs: practitioners cut perplexity at the midpoint of two class means; here it is a score, and its threshold is
    calibrated on known users like that of any other attack.
    Relations: ranks single answers exactly as `loss` does; averaged over a user, the least expected answers weigh more.
    """

    title: ClassVar[str] = "Perplexity"
    summary: ClassVar[str] = "How many answers the model hesitates between, the worst windows weighing most."
    source: ClassVar[str] = CARLINI

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) minus the perplexity."""
        return -np.exp(-log_likelihood(evidence, "target"))


@dataclass(frozen=True)
class Zlib(LogitAttack):
    """Log-likelihood of the answer over the size of its compressed text.

    Source: Carlini et al. 2021, arXiv 2012.07805. The published ratio is a loss, lower = member; here it is negated.
    """

    title: ClassVar[str] = "Likelihood per compressed byte"
    summary: ClassVar[str] = "How likely the answer is, for how much text a compressor finds in it."
    source: ClassVar[str] = CARLINI

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) mean log-probability per compressed byte."""
        return log_likelihood(evidence, "target") / evidence.signals["zlib_bytes"]


@dataclass(frozen=True)
class Lowercase(LogitAttack):
    """Minus the loss of the text over the loss of the same text in lower case.

    Source: Carlini et al. 2021, arXiv 2012.07805. It tells nothing where items are ids, which have no case.
    """

    title: ClassVar[str] = "Lower-case ratio"
    summary: ClassVar[str] = "How much the model minds when the same text is written in lower case."
    passes: ClassVar[str] = "2 on the target"
    source: ClassVar[str] = CARLINI
    needs: ClassVar[frozenset[str]] = frozenset({"target/lowercase"})

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) minus the ratio of the losses."""
        return -loss_ratio(evidence, "target", "target/lowercase")


@dataclass(frozen=True)
class MinK(LogitAttack):
    """Mean log-probability of each answer's least likely tokens.

    Source: Shi et al. 2024, arXiv 2310.16789 (Min-K% Prob, k = 20).
    Differs: at least one token is taken, so that short titles have a value.
    """

    share: float = 0.2
    """Share of an answer's tokens that count."""

    title: ClassVar[str] = "Min-K%"
    summary: ClassVar[str] = "How likely the model finds the most surprising tokens of the answer."
    source: ClassVar[str] = "Shi et al. 2024, arXiv 2310.16789"

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) mean log-probability of the lowest tokens."""
        target = evidence.views["target"]
        return lowest_mean(target, target.log_probability, self.share)


@dataclass(frozen=True)
class MinKPlusPlus(LogitAttack):
    """Mean standardised log-probability of each answer's least likely tokens: see `min_k_plus_plus`.

    Source: Zhang et al. 2025, arXiv 2404.02936.
    """

    share: float = 0.2
    """Share of an answer's tokens that count."""

    title: ClassVar[str] = "Min-K%++"
    summary: ClassVar[str] = "How the answer's most surprising tokens compare with what else could stand there."
    source: ClassVar[str] = "Zhang et al. 2025, arXiv 2404.02936"

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) mean standardised log-probability of the lowest tokens."""
        return min_k_plus_plus(evidence.views["target"], self.share)


@dataclass(frozen=True)
class Confidence(LogitAttack):
    """Mean top probability of the target at the answer's tokens, whatever the true token is.

    Source: Salem et al. 2019, arXiv 1806.01246 (maximum posterior).
    """

    title: ClassVar[str] = "Confidence"
    summary: ClassVar[str] = "How sure the model is of its own first choice, right or wrong."
    source: ClassVar[str] = "Salem et al. 2019, arXiv 1806.01246"

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) mean top probability."""
        return evidence.views["target"].sample_mean("top_probability")


@dataclass(frozen=True)
class Entropy(LogitAttack):
    """Minus the mean entropy of the target's next-token distribution at the answer's tokens.

    Source: Shokri et al. 2017, arXiv 1610.05820 (prediction uncertainty).
    """

    title: ClassVar[str] = "Entropy"
    summary: ClassVar[str] = "How little the model hesitates between answers."
    source: ClassVar[str] = "Shokri et al. 2017, arXiv 1610.05820"

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) minus the mean entropy, nats."""
        return -evidence.views["target"].sample_mean("entropy")


@dataclass(frozen=True)
class ModifiedEntropy(LogitAttack):
    """Minus the mean modified entropy, which is zero for certainty in the true token and infinite in a wrong one.

    Source: Song, Mittal 2021, arXiv 2003.10595: -(1 - p_y) log p_y - sum over the other tokens of p log(1 - p).
    """

    title: ClassVar[str] = "Modified entropy"
    summary: ClassVar[str] = "How little the model hesitates, where being sure of a wrong answer counts as hesitating."
    source: ClassVar[str] = "Song, Mittal 2021, arXiv 2003.10595"

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) minus the mean modified entropy, nats."""
        target = evidence.views["target"]
        log_p = target.log_probability.astype(np.float64)
        p = np.exp(log_p)
        own = p * np.log1p(-np.minimum(p, NEARLY_CERTAIN))
        # The sum over the vocabulary is in single precision: without the true token it may come out above zero.
        others = np.minimum(0, target.log_complement - own)
        return lowest_mean(target, (1 - p) * log_p + others, share=1)


@dataclass(frozen=True)
class MaxRenyi(LogitAttack):
    """Minus the mean Rényi entropy at the tokens where the target hesitates most, whatever the true token is.

    Source: Li et al. 2024, arXiv 2411.02902 (MaxRényi-K%).
    Differs: order and share are fixed here; the paper reports the best of many and finds no fixed winner.
    """

    order: float = 0.5
    """Order of the entropy: 0.5, 1, 2 or infinity; lower orders mind unlikely tokens more."""
    share: float = 0.1
    """Share of an answer's tokens that count, at least one."""

    title: ClassVar[str] = "MaxRényi-K%"
    summary: ClassVar[str] = "How little the model hesitates where it hesitates most."
    source: ClassVar[str] = RENYI

    def __post_init__(self) -> None:
        if self.order not in (0.5, 1, 2, np.inf):
            raise ConfigError(f"max_renyi.order is {self.order}; it must be 0.5, 1, 2 or infinity")

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) minus the mean of the highest entropies, nats."""
        target = evidence.views["target"]
        if self.order == np.inf:
            return lowest_mean(target, np.log(target.top_probability), self.share)
        entropy = {0.5: target.renyi_half, 1: target.entropy, 2: target.renyi_two}[self.order]
        return lowest_mean(target, -entropy, self.share)


@dataclass(frozen=True)
class ModRenyi(LogitAttack):
    """Minus the mean modified Rényi entropy, which takes the true token into account.

    Source: Li et al. 2024, arXiv 2411.02902 (ModRényi): with a = |order - 1|, minus 1/a times
    (1 - p_y) (p_y^a - 1) plus the sum over the other tokens of p ((1 - p)^a - 1).
    Relations: tends to `modified_entropy` as the order tends to 1.
    """

    order: float = 0.5
    """Order of the entropy: 0.5 or 2."""

    title: ClassVar[str] = "ModRényi"
    summary: ClassVar[str] = "How little the model hesitates on the way to the true answer, with bounded penalties."
    source: ClassVar[str] = RENYI

    def __post_init__(self) -> None:
        if self.order not in (0.5, 2):
            raise ConfigError(f"mod_renyi.order is {self.order}; it must be 0.5 or 2 (1 is modified_entropy)")

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) minus the mean modified entropy."""
        target = evidence.views["target"]
        a = abs(self.order - 1)
        p = np.exp(target.log_probability.astype(np.float64))
        # Sum over the vocabulary of p (1 - p)^a; for order 2 that is one minus the sum of squares.
        everywhere = target.root_complement if self.order == 0.5 else -np.expm1(-target.renyi_two)
        others = (everywhere - p * (1 - p) ** a) - (1 - p)
        return lowest_mean(target, ((1 - p) * (p**a - 1) + others) / a, share=1)


@dataclass(frozen=True)
class DcPdd(TunedAttack):
    """Mean over the answer's distinct tokens of probability times log of one over the token's public share, capped.

    Source: Zhang et al. 2024, arXiv 2409.14781 (DC-PDD): first occurrences only, cap 0.01.
    Differs: a fine-tuned recommender gives the tokens of titles far more probability than a language model gives
    words of prose, so that nearly all of them lie above the published cap; the known users choose it.
    """

    caps: tuple[float, ...] = (10.0, 1.0, 0.1, 0.01)
    """Upper bounds of one token's contribution to choose from; of equally good ones the first is taken."""

    title: ClassVar[str] = "Calibrated token divergence"
    summary: ClassVar[str] = "How likely the model finds the answer's words, rare words counting more."
    source: ClassVar[str] = DC_PDD

    def candidates(self, evidence: Evidence) -> np.ndarray:
        """(n_samples, n_caps) mean capped divergence."""
        assert evidence.background is not None  # noqa: S101 - always observed
        target = evidence.views["target"]
        sample = sample_of_token(target)
        order = np.lexsort((target.token, sample))
        # lexsort is stable: within one token of one sample, positions stay in order.
        first = np.ones(len(order), dtype=bool)
        first[1:] = (np.diff(sample[order]) != 0) | (np.diff(target.token[order]) != 0)
        taken = order[first]
        share = evidence.background.token_share[target.token[taken]]
        divergence = -np.exp(target.log_probability[taken].astype(np.float64)) * np.log(share)
        counts = np.bincount(sample[taken], minlength=len(target))
        sums = [np.bincount(sample[taken], np.minimum(cap, divergence), len(target)) for cap in self.caps]
        return np.stack(sums, axis=1) / counts[:, None]


@dataclass(frozen=True)
class ItemPopularityCalibrated(LogitAttack):
    """Probability of the whole answer times log of one over the item's share of what public users have.

    Source: Zhang et al. 2024, arXiv 2409.14781 (DC-PDD), carried from tokens to items.
    Differs: one item is one word, its share is its popularity among public users, and nothing is capped.
    """

    title: ClassVar[str] = "Likelihood for the item's popularity"
    summary: ClassVar[str] = "How likely the model finds the true next items, rare items counting more."
    source: ClassVar[str] = f"after {DC_PDD}, item popularity as reference"

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) probability times log of one over popularity."""
        assert evidence.background is not None  # noqa: S101 - always observed
        having = evidence.background.item_share
        # Laplace's one more user, in shares: the rarest item that anybody has is had by about one.
        having = having + having[having > 0].min(initial=1.0)
        popularity = (having / having.sum())[evidence.signals["answer_item"]]
        return -np.exp(evidence.views["target"].sample_sum("log_probability")) * np.log(popularity)


@dataclass(frozen=True)
class TokenProfile(LogitAttack):
    """Logistic regression on mean log-probabilities at the answer's first, second, middle and last token.

    It tells where in the answer the signal sits: the first token picks the item, later ones often only spell it.
    Source: practitioners' token-level features, with no paper to cite; the four positions are our own choice.
    Differs: a position that a user's answers do not have is filled with the known users' mean.
    """

    penalty: float = 1.0
    """Inverse strength of the penalty on the weights."""

    title: ClassVar[str] = "Token profile"
    summary: ClassVar[str] = (
        "How likely the answer's first, second, middle and last token are, weighed by what is known."
    )
    source: ClassVar[str] = "token-level features; positions are our own choice"
    learned: ClassVar[bool] = True

    def profile(self, evidence: Evidence) -> np.ndarray:
        """(n_users, 4) mean log-probability at each position, NaN where none of the user's answers has it."""
        target = evidence.views["target"]
        start, length = target.offsets[:-1], np.diff(target.offsets)
        # No token goes by two names: an answer of two tokens has a first and a second, but no middle and no last.
        present = length[:, None] >= np.array([1, 2, 4, 3])
        position = np.stack([0 * length, 0 * length + 1, length // 2, length - 1], axis=1)
        found = target.log_probability[start[:, None] + np.where(present, position, 0)]
        share = evidence.user_mean(present)
        share[share == 0] = np.nan
        return evidence.user_mean(np.where(present, found, 0)) / share

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) logit."""
        rows, judged = self.profile(known.evidence), self.profile(audited)
        scorable, askable = ~np.isnan(rows[:, 0]), ~np.isnan(judged[:, 0])
        model = make_pipeline(
            SimpleImputer(keep_empty_features=True), StandardScaler(), LogisticRegression(C=self.penalty)
        ).fit(rows[scorable], known.member[scorable])
        scores = np.full(len(judged), np.nan)
        if askable.any():
            scores[askable] = model.decision_function(judged[askable])
        return scores
