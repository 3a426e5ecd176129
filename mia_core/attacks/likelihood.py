"""Attacks that look at how likely the target finds the answers, nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.logit_attack import (
    LogitAttack,
    TunedAttack,
    log_likelihood,
    loss_ratio,
    lowest_mean,
    min_k_plus_plus,
    sample_of_token,
)

CARLINI = "Carlini et al. 2021, arXiv 2012.07805"
DC_PDD = "Zhang et al. 2024, arXiv 2409.14781"


@dataclass(frozen=True)
class Loss(LogitAttack):
    """Mean log-probability of the user's answers under the target.

    Formula: s(u) = mean over windows, mean over answer tokens t, of log p(x_t | before)
    Source: Yeom et al. 2018, arXiv 1709.01604 (loss threshold).
    Differs: averaged over a user's windows instead of one record.
    Fails: Titles that any model of the kind finds likely score high for everybody: popular items and easily spelled
        titles look like training.
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

    Formula: s(u) = mean over windows of -exp(-mean_t log p(x_t | before))
    Source: Carlini et al. 2021, arXiv 2012.07805.
    Differs: practitioners cut perplexity at the midpoint of two class means; here it is a score, and its threshold is
    calibrated on known users like that of any other attack.
    Relations: ranks single answers exactly as `loss` does; averaged over a user, the least expected answers weigh more.
    Fails: One badly predicted window can outweigh all others of the user, and easy titles score high for everybody,
        as with `loss`.
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

    Formula: s(u) = mean over windows of (mean_t log p(x_t)) / bytes of zlib(answer)
    Source: Carlini et al. 2021, arXiv 2012.07805. The published ratio is a loss, lower = member; here it is negated.
    Fails: Titles of a few words hardly compress, so that the divisor says little more than their length.
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

    Formula: s(u) = mean over windows of -loss(x) / loss(lower(x))
    Source: Carlini et al. 2021, arXiv 2012.07805. It tells nothing where items are ids, which have no case.
    Fails: Models whose tokens do not tell capitals apart, and items that are ids, give everybody the same ratio.
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

    Formula: s(u) = mean over windows of the mean of the lowest k% of log p(x_t), at least one token; k = 20
    Source: Shi et al. 2024, arXiv 2310.16789 (Min-K% Prob, k = 20).
    Differs: at least one token is taken, so that short titles have a value.
    Fails: Titles have few tokens: often a single one decides, and it is the hardest word of the title for every
        model.
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
    """Mean standardised log-probability of each answer's least likely tokens.

    Formula: z_t = (log p(x_t) - sum_v p_v log p_v) / deviation_p(log p_v); s(u) = mean over windows of the mean of
        the lowest k% of z_t; k = 20
    Source: Zhang et al. 2025, arXiv 2404.02936.
    Fails: It needs the whole distribution: behind rounding, top answers alone or lists it has nothing to read.
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

    Formula: s(u) = mean over windows and tokens of max_v p_v
    Source: Salem et al. 2019, arXiv 1806.01246 (maximum posterior).
    Fails: A model that is sure of wrong answers scores as high as one that has learned the right ones.
    """

    title: ClassVar[str] = "Confidence"
    summary: ClassVar[str] = "How sure the model is of its own first choice, right or wrong."
    source: ClassVar[str] = "Salem et al. 2019, arXiv 1806.01246"

    def sample_scores(self, evidence: Evidence) -> np.ndarray:
        """(n_samples,) mean top probability."""
        return evidence.views["target"].sample_mean("top_probability")


@dataclass(frozen=True)
class DcPdd(TunedAttack):
    """Mean over the answer's distinct tokens of probability times log of one over the token's public share, capped.

    Formula: s(u) = mean over the answer's distinct tokens of min(cap, -p(x_t) log q(x_t)), q = share of the token in
        public users' titles
    Source: Zhang et al. 2024, arXiv 2409.14781 (DC-PDD): first occurrences only, cap 0.01.
    Differs: a fine-tuned recommender gives the tokens of titles far more probability than a language model gives
    words of prose, so that nearly all of them lie above the published cap; the known users choose it.
    Fails: Where public users hold few items the shares of rare tokens are mere guesses; the cap is fitted on known
        users and may not carry over to few of them.
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

    Formula: s(u) = mean over windows of -p(item) log q(item), p(item) = product of p(x_t), q = share of the item
        among public users
    Source: Zhang et al. 2024, arXiv 2409.14781 (DC-PDD), carried from tokens to items.
    Differs: one item is one word, its share is its popularity among public users, and nothing is capped.
    Fails: It multiplies likelihood by rarity, so that a few rare items decide; without public users of the same
        catalogue there is no q.
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
    Formula: s(u) = w0 + sum_j w_j · mean log p at the first, second, middle and last token, w from logistic
        regression on known users
    Source: practitioners' token-level features, with no paper to cite; the four positions are our own choice.
    Differs: a position that a user's answers do not have is filled with the known users' mean.
    Fails: It needs a few dozen known users; answers of one token leave it nothing but `loss`.
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
