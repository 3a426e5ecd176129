"""Claims about collections and ranges: was this collection used, how much of it, was anything like this used.

One user is one observation. Nothing here is an attack on one person by itself, save `RangeAttack`; the functions work
on the scores or features that attacks give.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import stats
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mia_core.attacks.contract import HONEST
from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.regression import fitted_logit

LEAST_GAP = 0.1
"""An indicator whose true and false positive rates are closer than this says nothing about shares."""


@dataclass(frozen=True)
class CollectionTest:
    """Whether a collection of users was trained on."""

    p_value: float
    """One-sided; NaN where a side has fewer than two scorable users or no spread."""
    effect: float
    """Difference of the mean scores, in pooled standard deviations; positive: the suspects look trained on."""
    users: int
    """Suspect users that could be scored."""
    control_users: int


def dataset_inference(
    suspect: np.ndarray, control: np.ndarray, known: np.ndarray, member: np.ndarray, *, tail: float = 0.025
) -> CollectionTest:
    """Test of whether a collection of users scores higher than users who were certainly left out.

    Rows with a missing feature are left out. Nobody may be in two of the three groups.

    The control users must come from the same population as the suspects: any other difference between the two (period,
    source, length of history) gives a small p-value with no training behind it. The test cannot see that; a split by
    coin flips before training can rule it out.

    Args:
        suspect: (n, d) features of the collection's users.
        control: (m, d) features of held-out users.
        known: (k, d) features of the known users.
        member: (k,) bool, which of the known users were trained on.
        tail: share of the known users' values beyond which a feature is cut off, on either side.
    Source: Maini et al., NeurIPS 2024, arXiv 2406.06443.
    Differs: the classifier is fitted on known users, not on half of the suspects and controls, so it cannot learn
    whatever else tells those two apart; limits and scale come from the known users too; least squares are shrunk
    (Ledoit and Wolf), as known users are few; users instead of documents.
    """
    low, high = np.nanquantile(known, [tail, 1 - tail], axis=0)
    groups = np.concatenate([np.clip(suspect, low, high), np.clip(control, low, high)])
    model = make_pipeline(StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"))
    scores = fitted_logit(model, np.clip(known, low, high), member, groups)
    ours, theirs = (part[~np.isnan(part)] for part in (scores[: len(suspect)], scores[len(suspect) :]))
    p_value, effect = np.nan, np.nan
    if min(len(ours), len(theirs)) > 1 and ours.var() + theirs.var() > 0:
        p_value = float(stats.ttest_ind(ours, theirs, equal_var=False, alternative="greater").pvalue)
        pooled = np.sqrt((ours.var(ddof=1) + theirs.var(ddof=1)) / 2)
        effect = float((ours.mean() - theirs.mean()) / pooled)
    return CollectionTest(p_value, effect, len(ours), len(theirs))


@dataclass(frozen=True)
class ShareUsed:
    """How much of each collection was trained on."""

    share: np.ndarray
    """(n_collections,) in [0, 1]; NaN where nothing was scored, and everywhere where the indicator is too weak."""
    lower: np.ndarray
    upper: np.ndarray
    """(n_collections,) ends of the interval; 0 and 1 where the share is unknown."""
    tpr: float
    fpr: float
    """How often the indicator says yes to members and to held-out users who are known."""

    @property
    def stable(self) -> bool:
        """Whether the indicator tells known members and held-out users apart well enough to count with it."""
        return self.tpr - self.fpr >= LEAST_GAP


def share_used(
    scores: np.ndarray,
    collection: np.ndarray,
    known_scores: np.ndarray,
    known_user: np.ndarray,
    member: np.ndarray,
    threshold: float,
    *,
    collections: int | None = None,
    confidence: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> ShareUsed:
    """The share of each collection that was trained on, corrected for the mistakes of "score above the threshold".

    A collection is a cohort, with one score per user, or a person, with one score per window. The known users' scores
    are of the same kind as the others; a learned attack's are out of fold, and the threshold is not chosen among many.
    That a collection's members are recognised as often as the known ones is assumed, not tested. The interval is from
    a smoothed Bayesian bootstrap over the known users and over the collection; the windows of one person count less
    the more alike the answers to one known person's windows are.

    Args:
        scores: (n,) higher = likelier member; NaN is left out.
        collection: (n,) position of the collection that each score belongs to.
        known_scores: (m,) of known users or of their windows.
        known_user: (m,) position in `member` of each known score's user.
        member: (n_known_users,) bool.
        collections: how many there are; one more than the highest position, unless it is given.
    Source: Tong et al., ICLR 2025 (DUCI): (share of yes - FPR) / (TPR - FPR).
    Differs: clipped to [0, 1]; refused where TPR - FPR is below a tenth; with an interval, also for TPR and FPR.
    """
    rng = np.random.default_rng(seed)
    total = collections if collections is not None else int(collection.max(initial=-1)) + 1
    yes, asked = _counts(scores, collection, total, threshold)
    known_yes, known_asked = _counts(known_scores, known_user, len(member), threshold)
    tpr, fpr = (float(known_yes[side].sum() / known_asked[side].sum()) for side in (member, ~member))
    unknown = np.full(total, np.nan)
    if not tpr - fpr >= LEAST_GAP:
        return ShareUsed(unknown, np.zeros(total), np.ones(total), tpr, fpr)
    tprs, fprs = (_bootstrapped(known_yes[side], known_asked[side], resamples, rng) for side in (member, ~member))
    share = np.divide(yes, asked, out=unknown, where=asked > 0)
    share = np.clip((share - fpr) / (tpr - fpr), 0, 1)

    # Collections with the same counts have the same interval, whatever other collections there are.
    pairs, which = np.unique(np.column_stack([yes, asked]), axis=0, return_inverse=True)
    likeness = _likeness([(known_yes[side], known_asked[side]) for side in (member, ~member)])
    independent = pairs / (1 + np.maximum(pairs[:, 1:] - 1, 0) * likeness)
    # Half a yes and half a no are added: a bootstrap of four times yes would be certain.
    rates = stats.beta.ppf(
        rng.random(resamples), independent[:, :1] + 0.5, independent[:, 1:] - independent[:, :1] + 0.5
    )
    shares = np.clip((rates - fprs) / np.maximum(tprs - fprs, 1e-9), 0, 1)
    lower, upper = np.quantile(shares, [(1 - confidence) / 2, (1 + confidence) / 2], axis=1)[:, which.ravel()]
    empty = asked == 0
    return ShareUsed(
        share,
        np.where(empty, 0, np.fmin(lower, share)),
        np.where(empty, 1, np.fmax(upper, share)),
        tpr,
        fpr,
    )


def _counts(scores: np.ndarray, group: np.ndarray, groups: int, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """How often the indicator says yes in each group, and how often it was asked."""
    asked = ~np.isnan(scores)
    return (
        np.bincount(group[asked], scores[asked] > threshold, minlength=groups),
        np.bincount(group[asked], minlength=groups).astype(np.float64),
    )


def _bootstrapped(yes: np.ndarray, asked: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """(resamples,) draws of a rate: every user is weighted at random, half a yes and half a no are added.

    With one answer per user these are draws from Beta(yes + 1/2, no + 1/2), Jeffreys' posterior.
    """
    pairs, users = np.unique(np.column_stack([yes, asked])[asked > 0], axis=0, return_counts=True)
    weights = rng.gamma(users, size=(resamples, len(users)))
    added = rng.gamma(0.5, size=(resamples, 2)) * asked[asked > 0].mean()
    rates: np.ndarray = (weights @ pairs[:, 0] + added[:, 0]) / (weights @ pairs[:, 1] + added.sum(axis=1))
    return rates


def _likeness(sides: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Correlation between the answers to two windows of one user, pooled over sides; 0 with one window per user."""
    shared, spread = 0.0, 0.0
    for yes, asked in sides:
        rate = yes.sum() / asked.sum()
        own = yes * (1 - rate) ** 2 + (asked - yes) * rate**2
        shared += float(((yes - asked * rate) ** 2 - own).sum())
        spread += float((asked * (asked - 1)).sum() * rate * (1 - rate))
    return min(1.0, max(0.0, shared / spread)) if spread > 0 else 0.0


def range_score(scores: np.ndarray, trim: float = 0.5) -> np.ndarray:
    """(n,) mean of the highest scores among variants of one record, at least one of them.

    Args:
        scores: (n, n_variants).
        trim: share of the variants, the lowest, that is left out: 0 is the mean, 1 the maximum.
    Source: Tao and Shokri 2024, arXiv 2408.05131 (RaMIA: trimmed average over a range).
    """
    variants = scores.shape[1]
    kept = max(1, variants - int(trim * variants))
    highest: np.ndarray = np.sort(scores, axis=1)[:, -kept:].mean(axis=1)
    return highest


@dataclass(frozen=True)
class RangeAttack:
    """Mean of the highest likelihood gains over a window and variants of it whose history differs a little.

    Formula: s(u) = mean over windows of the mean of the highest gains LL_target(answer | h') - LL_base(answer | h),
        h' the true history and swapped ones
    Source: Tao and Shokri 2024, arXiv 2408.05131 (RaMIA).
    Differs: the range is the same answer after histories with swapped items; the base's likelihood after the true
    history is subtracted from all of them; averaged over a user's windows.
    Relations: without variants it equals `target_minus_base`. It is for auditors whose export of a history is not
    quite the one that was trained on.
    Fails: With the exact history at hand the range only dilutes what the true one shows.
    """

    trim: float = 0.5
    """Share of the variants, the lowest, that is left out."""

    title: ClassVar[str] = "Range"
    summary: ClassVar[str] = "How likely the model finds the next items after histories that differ a little."
    access: ClassVar[str] = "logits"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 on the target, 1 on each swapped history, 1 on the base"
    source: ClassVar[str] = "Tao, Shokri 2024, arXiv 2408.05131"
    needs: ClassVar[frozenset[str]] = frozenset({"base", "target/history_swapped"})
    learned: ClassVar[bool] = False

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) nats per token."""
        base = audited.views["base"].sample_mean("log_probability")
        variants = [audited.views["target"], *audited.replicates("target/history_swapped")]
        gains = np.column_stack([variant.sample_mean("log_probability") - base for variant in variants])
        return audited.user_mean(range_score(gains, self.trim))
