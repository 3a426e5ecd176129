"""Attacks on a deployed recommender that shows its ranked lists or its text, and no probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import scipy.sparse
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mia_core.attacks.contract import HONEST
from mia_core.attacks.evidence import Background, Evidence, Known
from mia_core.attacks.fused import penalised_regression, scalars
from mia_core.attacks.regression import fitted_logit
from mia_core.errors import ModelError

if TYPE_CHECKING:
    from mia_core.observe.observations import Observations


def public_background(evidence: Evidence) -> Background:
    """What public users say about tokens and items.

    Raises:
        ModelError: the evidence was gathered without it.
    """
    if evidence.background is None:
        raise ModelError("this attack compares items or tokens; gather the evidence with the public users' background")
    return evidence.background


def mean_vector(evidence: Evidence, items: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(n, width) mean vector of each row's items; NaN where no item of the row has one.

    Args:
        items: (n, length) catalogue positions; -1, and items that no public user has, have no vector.
        weights: (length,) of each place; all places count alike, unless it is given.
    """
    vectors = public_background(evidence).item_vectors.astype(np.float64)
    rows, places = np.nonzero((items >= 0) & vectors.any(axis=1)[items])
    share = np.ones(len(rows)) if weights is None else weights[places]
    # A dense array of every place's vector would not fit into memory where histories are long.
    counted = scipy.sparse.csr_array((share, (rows, items[rows, places])), shape=(len(items), len(vectors)))
    total = counted.sum(axis=1)
    return (counted @ vectors) / np.where(total == 0, np.nan, total)[:, None]


def cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n,) cosine of two arrays of rows; 0 where a row is zero, NaN where it is NaN."""
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(axis=1) / np.where(lengths == 0, 1.0, lengths)


def defined_mean(evidence: Evidence, values: np.ndarray) -> np.ndarray:
    """(n_users,) mean over each user's samples whose value is not NaN; NaN for a user who has none of these."""
    defined = ~np.isnan(values)
    share = evidence.user_mean(defined)
    share[share == 0] = np.nan
    return evidence.user_mean(np.where(defined, values, 0.0)) / share


def reciprocal_rank(evidence: Evidence) -> np.ndarray:
    """(n,) one over the place, counted from 1, of the true answer in the list; 0 where it is not there."""
    hits = evidence.lists["lists"] == evidence.signals["answer_item"][:, None]
    return (hits / np.arange(1, hits.shape[1] + 1)).max(axis=1, initial=0.0)


def greedy_similarity(evidence: Evidence, observed: Observations) -> np.ndarray:
    """(total,) cosine of the greedy token's embedding with the true token's, for each answer token."""
    vectors = public_background(evidence).token_vectors.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(lengths == 0, 1.0, lengths)
    return np.einsum("td,td->t", unit[observed.top_token], unit[observed.token])


def line_through(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """(slope, intercept) of the least-squares line; flat where x does not vary."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    spread = x - x.mean()
    # What rounding leaves of equal values is no variation.
    slope = float(spread @ y / (spread @ spread)) if np.ptp(x) > 1e-9 else 0.0
    return slope, float(y.mean() - slope * x.mean())


@dataclass(frozen=True)
class Petal:
    """Log-probability of the answers, estimated from how close the target's greedy tokens come to the true ones.

    The line from similarity to log-probability is the base's, whose probabilities the auditor sees; the target is
    asked for its likeliest token at each place only.
    Formula: s(u) = mean over tokens of a + b · cos(e(greedy token), e(true token)), a and b from the base's own
        log-probabilities
    Source: He et al. 2025, arXiv 2502.18943 (PETAL).
    Differs: similarity is that of the base's token embeddings, not of a sentence encoder; the surrogate is the base;
    one line is fitted on all known users' tokens (no membership is used), as titles are too short for a line each.
    Relations: as the line is common to all, users stand in the order of their mean similarity.
    Fails: Nearly all of its order is the similarity of titles in words; where items are ids there is none.
    """

    title: ClassVar[str] = "PETAL"
    summary: ClassVar[str] = "How close in meaning the model's first choices come to the user's true items."
    access: ClassVar[str] = "labels only"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 on the target, 1 on the base"
    source: ClassVar[str] = "He et al. 2025, arXiv 2502.18943"
    needs: ClassVar[frozenset[str]] = frozenset({"base"})
    learned: ClassVar[bool] = False

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) estimated mean log-probability, nats per token."""
        base, target = known.evidence.views["base"], audited.views["target"]
        slope, intercept = line_through(greedy_similarity(known.evidence, base), base.log_probability)
        estimate = intercept + slope * greedy_similarity(audited, target)
        return audited.user_mean(target.answer_mean(estimate))


@dataclass(frozen=True)
class ListHit:
    """Mean reciprocal rank of the true next item in the list that the target recommends.

    Formula: s(u) = mean over windows of 1 / rank of the true next item in the list, 0 where it is not there
    Source: Yeom et al. 2018, arXiv 1709.01604 (correctness of the output as the signal).
    Differs: graded by rank, as a recommender answers with a list.
    Relations: `loss` as far as a list shows it.
    Fails: A good recommender finds the next item of strangers, too; most windows score 0, so that users tie.
    """

    title: ClassVar[str] = "Hit in the list"
    summary: ClassVar[str] = "How high the user's true next items stand in what the model recommends."
    access: ClassVar[str] = "labels only"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 list"
    source: ClassVar[str] = "after Yeom et al. 2018, arXiv 1709.01604"
    needs: ClassVar[frozenset[str]] = frozenset({"lists"})
    learned: ClassVar[bool] = False

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) mean reciprocal rank, 0 to 1."""
        return audited.user_mean(reciprocal_rank(audited))


@dataclass(frozen=True)
class ListConsistency:
    """Share of pairs of answers that agree, over draws at several temperatures.

    A choice outside the catalogue agrees with nothing, itself drawn again included.
    Formula: s(u) = share of pairs of equal first choices over temperatures and repeats
    Source: practitioners' rule without a citable origin: what was trained on is answered alike at any temperature.
    Relations: `entropy` of the first choice as far as repeated draws show it.
    Fails: It measures how clear-cut a taste is; nobody has published that it measures training.
    """

    title: ClassVar[str] = "Consistency over temperatures"
    summary: ClassVar[str] = "How often the model gives the same first choice when it is asked again and again."
    access: ClassVar[str] = "labels only"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 first choice for each temperature and repeat"
    source: ClassVar[str] = "heuristic of practitioners, no publication"
    needs: ClassVar[frozenset[str]] = frozenset({"temperatures"})
    learned: ClassVar[bool] = False

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) share of agreeing pairs, 0 to 1; NaN where there is a single draw."""
        drawn = audited.lists["temperatures"]
        choices = drawn.reshape(len(drawn), -1)
        valid = choices >= 0
        alike = (choices[:, :, None] == choices[:, None, :]) & valid[:, :, None]
        draws = choices.shape[1]
        pairs = draws * (draws - 1) or np.nan
        # Each choice agrees with itself once; that is no pair.
        return audited.user_mean((alike.sum(axis=(1, 2)) - valid.sum(axis=1)) / pairs)


@dataclass(frozen=True)
class ReferenceRecommendation:
    """Whether the list stands nearer to the person's history than to the list served to nobody in particular.

    rho = |v_t - v_h| / |v_t - v_r|, with mean item vectors of the list (t), of the list without a history (r) and of
    the history (h). The paper calls rho < 1 a member, so that minus its logarithm is the score.
    Formula: rho = (|v_t - v_h| + e) / (|v_t - v_r| + e); s(u) = -mean over windows of log rho
    Source: Chi et al., AAAI 2026, arXiv 2512.09442.
    Differs: item vectors come from the co-occurrence of public users; rho is graded and averaged over windows as a
    logarithm instead of cut at 1.
    Relations: where members and others are served from equal histories, as here, it can only find what training added
    to the use of the history; in the paper's setting non-members may be served without one.
    Fails: Where everybody is served by the same model from their own history it finds use of the history, not
        training.
    """

    epsilon: float = 0.01
    """Added to both distances: a list that does not depend on the history has a finite rho."""

    served: ClassVar[str] = "lists"
    title: ClassVar[str] = "Reference recommendation"
    summary: ClassVar[str] = "Whether the list is closer to the history than to what a stranger is served."
    access: ClassVar[str] = "labels only"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 list, 1 list without history"
    source: ClassVar[str] = "Chi et al. 2026, arXiv 2512.09442"
    needs: ClassVar[frozenset[str]] = frozenset({"lists", "lists/no_history"})
    learned: ClassVar[bool] = False

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) mean of minus log rho; NaN where no list holds an item with a vector."""
        served = mean_vector(audited, audited.lists[self.served])
        stranger = mean_vector(audited, audited.lists["lists/no_history"])
        history = mean_vector(audited, audited.signals["history_items"])
        to_history = np.linalg.norm(served - history, axis=1) + self.epsilon
        to_stranger = np.linalg.norm(served - stranger, axis=1) + self.epsilon
        return defined_mean(audited, -np.log(to_history / to_stranger))


@dataclass(frozen=True)
class TextDistillation:
    """What the target answers, against a copy of it that was trained on its generated text alone.

    The copy is the auditor's own, so that its probabilities may be looked at; of the target only lists and greedy
    tokens are. The copy learned from answers to public users' prompts and never met the users it helps to score.
    Features per user: of the target hit in the list, reciprocal rank, similarity of its first item to the true one,
    and share of greedy tokens that are right less the copy's own share; of the copy log-probability, confidence and
    entropy of the true answer and that share. Logistic regression on known users.
    Formula: s(u) = w · (hit, 1 / rank, cos(first item, answer), greedy right - copy's; log p, confidence, entropy of
        the copy) + w0, fitted on known users
    Source: Fu et al., NeurIPS 2024, arXiv 2311.06062 (reference trained on the target's own text); Li, Huang, Yin, Sang
    2025, arXiv 2511.14763 (distilled copy, logistic regression).
    Differs: the first subtracts probabilities of the target, which a black box does not show; the second distils
    from its logits.
    Fails: A copy made of texts alone is a bad imitation, and a list of ten shows little of what the model knows.
    """

    title: ClassVar[str] = "Distillation from text alone"
    summary: ClassVar[str] = "Whether the model answers better than a copy trained only on what it wrote for others."
    access: ClassVar[str] = "labels only"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 list and 1 on the target, 1 on the copy"
    source: ClassVar[str] = "after Fu et al. 2024, arXiv 2311.06062, and Li et al. 2025, arXiv 2511.14763"
    needs: ClassVar[frozenset[str]] = frozenset({"self_prompted", "lists"})
    learned: ClassVar[bool] = True

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) logit."""
        fitted_on, judged = self.features(known.evidence), self.features(audited)
        member = known.member[~np.isnan(fitted_on).any(axis=1)]
        model = make_pipeline(StandardScaler(), penalised_regression(member))
        return fitted_logit(model, fitted_on, known.member, judged)

    def features(self, evidence: Evidence) -> np.ndarray:
        """(n_users, 8) the target's answers, then the copy's opinion of the truth."""

        def greedy_right(view: str) -> np.ndarray:
            observed = evidence.views[view]
            return observed.answer_mean(observed.top_token == observed.token)

        rank = reciprocal_rank(evidence)
        first = np.nan_to_num(mean_vector(evidence, evidence.lists["lists"][:, :1]))
        truth = np.nan_to_num(mean_vector(evidence, evidence.signals["answer_item"][:, None]))
        expected = greedy_right("self_prompted")
        of_target = [rank > 0, rank, cosine(first, truth), greedy_right("target") - expected]
        answered = evidence.user_mean(np.column_stack([*of_target, expected]))
        return np.hstack([answered, scalars(evidence, "self_prompted")])
