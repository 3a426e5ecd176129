"""Gates: what must hold before any result is believed. Together they refuse a sound audit at most 1% of the time."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import scipy.sparse
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import MultiLabelBinarizer

from mia_core.evaluate.calibration import strata
from mia_core.evaluate.comparison import max_statistic
from mia_core.evaluate.intervals import auc_interval
from mia_core.types import Gate

BLIND_LEVEL = 0.004
PLACEBO_LEVEL = 0.003
NULL_LEVEL = 0.003
"""Chance that each gate refuses a sound audit; their sum is 1%."""
DEMONSTRATION_LEVEL = 0.05
"""The leaking demonstration must exceed chance at this level."""
PERMUTATIONS = 4_999
"""Of the users' membership, in the blind and the placebo gate."""
DEALS = 1_999
"""Of the p-values, in the null gate."""
BLOCKS = 10
"""Parts of the users that the blind gate judges in turn."""
FPR_LEVELS = (0.05, 0.01)


def blind_gate(
    covariates: np.ndarray,
    items: Sequence[Collection[str]] | scipy.sparse.sparray,
    is_member: np.ndarray,
    rng: np.random.Generator,
    names: Sequence[str] = (),
) -> Gate:
    """Can membership be told without asking any model?

    Each covariate is tried alone, by its AUC over all users. Gradient boosting sees the covariates together, logistic
    regression the bag of items. For these two the users are judged block by block in random order, each block by
    classifiers that learned from all blocks before it. Whatever they learned, the labels of the next block are still
    fresh coin flips, so members rank no higher in it than chance allows; the rank sums of all blocks are added up.

    Formula: p = 3 · the smallest of: adjusted p of the best single covariate, p of boosting over blocks, p of the bag
        of items over blocks
    Args:
        covariates: (n, c) what is known of each user without a model; may hold NaN.
        items: the items of each user, or a sparse (n, items) matrix.
        is_member: (n,) the truth.
        rng: orders the users.
        names: what the covariates are called, in order; else they are numbered.
    Source: classifier two-sample tests: Lopez-Paz & Oquab, ICLR 2017, arXiv 1610.06545. Blind baselines: Das, Zhang &
        Tramèr 2024, arXiv 2406.16201.
    Differs: out-of-fold scores of cross-validation depend on one another through shared labels; here each score depends on
        earlier labels only, which makes the test valid with no permutation of the fits. Of users with the same items, who
        share one coin, only one is judged.
    Fails: It finds only what these covariates and two kinds of classifier can see; a split that differs otherwise
        passes.
    """
    bag = _bag(items)
    first = _first_of_each(bag)
    covariates, bag, is_member = (
        np.asarray(covariates, dtype=float)[first],
        bag[first],
        np.asarray(is_member, bool)[first],
    )
    order = rng.permutation(len(first))
    boosting = HistGradientBoostingClassifier(
        max_iter=40, max_leaf_nodes=6, min_samples_leaf=10, early_stopping=False, random_state=0
    )
    views = {
        **_one_by_one(covariates, is_member, rng, names),
        "all covariates together": _sequential_test(boosting, covariates, is_member, order),
        "the items": _sequential_test(LogisticRegression(C=0.1), bag, is_member, order),
    }
    basis = min(views, key=lambda name: views[name][1])
    auc, p = views[basis]
    p_value = min(1.0, 3 * p)  # Three tests: what is tried alone is already adjusted.
    passed = p_value > BLIND_LEVEL
    result = "cannot be told from held-out users" if passed else "can be told from held-out users"
    return Gate(
        "blind",
        passed,
        auc,
        p_value,
        len(first),
        f"Without asking any model, members {result} by their histories: AUC {auc:.3f} by {basis}; {_p(p_value)}, "
        f"{len(first):,} users.",
        "The split is not random by user. Draw members and held-out users by independent coins from the same period and "
        "source, then train and audit again; no result of this audit can be trusted.",
    )


def _bag(items: Sequence[Collection[str]] | scipy.sparse.sparray) -> scipy.sparse.csr_array:
    if scipy.sparse.issparse(items):
        return scipy.sparse.csr_array(items, dtype=float)
    return scipy.sparse.csr_array(MultiLabelBinarizer(sparse_output=True).fit_transform(items), dtype=float)


def _first_of_each(bag: scipy.sparse.csr_array) -> np.ndarray:
    """Positions of users, one for each set of items; users without items all stay."""
    bag.sort_indices()
    firsts: dict[tuple[bytes, int], int] = {}
    for i, row in enumerate(np.split(bag.indices, bag.indptr[1:-1])):
        firsts.setdefault((row.tobytes(), -1 if len(row) else i), i)
    return np.array(list(firsts.values()), dtype=int)


def _one_by_one(
    covariates: np.ndarray, is_member: np.ndarray, rng: np.random.Generator, names: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """AUC and p-value of each covariate, adjusted for how many there are; those without any variation are left out."""
    titles = names or [f"covariate {k + 1}" for k in range(covariates.shape[1])]
    columns = {f"{title} alone": column for title, column in zip(titles, covariates.T, strict=True)}
    adjusted = max_statistic(columns, is_member, PERMUTATIONS, rng, two_sided=True)
    return {name: (_auc(columns[name], is_member), p) for name, p in adjusted.items() if not math.isnan(p)}


def _sequential_test(
    classifier: HistGradientBoostingClassifier | LogisticRegression,
    features: np.ndarray | scipy.sparse.csr_array,
    is_member: np.ndarray,
    order: np.ndarray,
) -> tuple[float, float]:
    """Mean AUC of blocks, each scored by what was learned from those before it, and the one-sided p-value."""
    if features.shape[1] == 0:
        return 0.5, 1.0
    blocks = np.array_split(order, BLOCKS)
    excess = variance = pairs = won = 0.0
    for k in range(2, BLOCKS):
        seen, block = np.concatenate(blocks[:k]), blocks[k]
        m, n = int(is_member[block].sum()), int((~is_member[block]).sum())
        if len(np.unique(is_member[seen])) < 2 or min(m, n) == 0:
            continue
        ranks = stats.rankdata(classifier.fit(features[seen], is_member[seen]).predict_proba(features[block])[:, 1])
        above_chance = ranks[is_member[block]].sum() - m * (m + n + 1) / 2
        # Later blocks count more, for their classifiers know more.
        excess += k * above_chance
        variance += k * k * m * n / (m + n) * ranks.var(ddof=1)
        pairs, won = pairs + m * n, won + above_chance
    if variance == 0:
        return 0.5, 1.0
    return 0.5 + won / pairs, float(stats.norm.sf(excess / math.sqrt(variance)))


def placebo_gate(
    scores_by_attack: Mapping[str, np.ndarray],
    is_member: np.ndarray,
    leaking_scores: np.ndarray | None,
    rng: np.random.Generator,
) -> Gate:
    """Does any attack tell members from others where the target has seen none of them?

    Formula: p = P(max over attacks of |AUC - 1/2| under permuted membership >= the observed one)
    Args:
        scores_by_attack: (n,) scores of each honest attack in the null world.
        is_member: (n,) the coins of the real world, which mean nothing in the null world.
        leaking_scores: (n,) of the demonstration whose reference was trained on audited members; it must exceed 0.5. None:
            not run.
        rng: permutes the users.
    Source: see `comparison.max_statistic`, two-sided.
    Fails: It shows that no attack finds anything where there is nothing; few users leave room for a small leak in the
        line itself.
    """
    is_member = np.asarray(is_member, dtype=bool)
    adjusted = max_statistic(scores_by_attack, is_member, PERMUTATIONS, rng, two_sided=True)
    tested = {name: _auc(scores_by_attack[name], is_member) for name, p in adjusted.items() if not math.isnan(p)}
    if not tested:
        sentence = "Where nobody audited is a member, no attack told any two users apart: nothing was tested."
        return Gate("placebo", False, math.nan, math.nan, len(is_member), sentence, "Run at least one attack on it.")
    p_value = min(adjusted[name] for name in tested)
    farthest = max(tested, key=lambda name: abs(tested[name] - 0.5))
    quiet = p_value > PLACEBO_LEVEL
    shown, demonstration = _demonstration(leaking_scores, is_member)
    verdict = "no attack finds anything, as it must be" if quiet else "an attack still finds something"
    return Gate(
        "placebo",
        quiet and shown,
        tested[farthest],
        p_value,
        len(is_member),
        f"Where nobody audited is a member, {verdict}: of {len(tested)} attacks the AUC farthest from 0.5 is "
        f"{tested[farthest]:.3f} ({farthest}); {_p(p_value)}, {len(is_member):,} users. {demonstration}",
        "Give the leaking demonstration more users or a longer training, until it exceeds 0.5."
        if quiet
        else "The attack, its reference or its tuning has seen who is a member: look for training, tuning or counting on "
        "audited users.",
    )


def _demonstration(scores: np.ndarray | None, is_member: np.ndarray) -> tuple[bool, str]:
    if scores is None:
        return True, "No leaking demonstration was run, so it is not shown that this gate could have failed."
    members, held_out = _groups(scores, is_member)
    auc = _auc(scores, is_member)
    one_sided = stats.mannwhitneyu(members, held_out, alternative="greater").pvalue if not math.isnan(auc) else math.nan
    if one_sided <= DEMONSTRATION_LEVEL:
        return True, f"The leaking demonstration reaches {auc:.3f}, so the gate could have failed."
    return (
        False,
        f"But the leaking demonstration reaches only {auc:.3f}: the gate could not have failed, and shows nothing.",
    )


def _groups(scores: np.ndarray, is_member: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores = np.asarray(scores, dtype=float)
    scored = ~np.isnan(scores)
    return scores[scored & is_member], scores[scored & ~is_member]


def _auc(scores: np.ndarray, is_member: np.ndarray) -> float:
    members, held_out = _groups(scores, is_member)
    return auc_interval(members, held_out, 0.95)[0] if len(members) and len(held_out) else math.nan


def null_gate(
    p_values: np.ndarray, history_length: np.ndarray, popularity: np.ndarray, rng: np.random.Generator
) -> Gate:
    """Are held-out users of every kind equally likely to look like members?

    In each stratum of history length × popularity, and in each group of either alone: Kolmogorov–Smirnov against the uniform
    distribution, and the rates of p ≤ 5% and p ≤ 1%. As all p-values together are uniform by construction, those of
    the groups are exactly as far from uniform as if they were dealt out at random: the limits come from dealing anew.

    Formula: largest Kolmogorov-Smirnov distance, and largest deviations of the shares of p <= 5% and p <= 1%, over
        all groups, against p-values dealt anew
    Args:
        p_values: (n,) of held-out users, each judged against the others; NaN ones are left out.
        history_length: (n,) of these users.
        popularity: (n,) mean popularity of their items.
        rng: deals.
    Source: one maximum over all groups for each of the three statistics (Westfall & Young 1993); the three by Bonferroni.
    Differs: exact binomial limits would be too wide, for drawing without replacement varies less.
    Relations: with a single group the gate cannot fail, and says so. `calibration.mondrian_p_values` are uniform
        within each stratum.
    Fails: Groups of other properties than history length and popularity are not looked at.
    """
    p_values = np.asarray(p_values, dtype=float)
    scored = ~np.isnan(p_values)
    p_values, length, popularity = p_values[scored], np.asarray(history_length)[scored], np.asarray(popularity)[scored]
    n = len(p_values)
    way_out = (
        "Compare each user with held-out users of like history length and popularity only (evaluation.compared_with = 'like'), "
        "or leave that stratum out."
    )
    groups = _groups_to_compare(length, popularity)
    if groups.shape[1] == 0:
        sentence = f"{n:,} held-out users are too few, or too alike, to be compared by kind: this gate could not fail."
        return Gate("null", True, math.nan, math.nan, n, sentence, way_out)
    order = np.lexsort((rng.random(n), p_values))
    places = [int((p_values <= level).sum()) for level in FPR_LEVELS]
    seen = _distances(groups[order], places)
    dealt = np.array([_distances(rng.permutation(groups), places).max(axis=1) for _ in range(DEALS)])
    each = (1 + (dealt >= seen.max(axis=1) - 1e-9).sum(axis=0)) / (DEALS + 1)
    p_value, test = min(1.0, float(each.min()) * len(each)), int(each.argmin())
    inside = groups[:, seen[test].argmax()]
    findings = [
        f"KS distance {stats.kstest(p_values[inside], 'uniform').statistic:.2f}",
        *(f"{(p_values[inside] <= level).sum()} of {inside.sum()} have p ≤ {level:g}" for level in FPR_LEVELS),
    ]
    passed = p_value > NULL_LEVEL
    verdict = "p-values of held-out users are uniform" if passed else "p-values of some held-out users are not uniform"
    return Gate(
        "null",
        passed,
        float(max(stats.kstest(p_values[group], "uniform").statistic for group in groups.T)),
        p_value,
        n,
        f"Within {groups.shape[1]} groups by history length and popularity, {verdict}; farthest from it: histories of "
        f"{length[inside].min():g} to {length[inside].max():g} items, mean popularity {popularity[inside].min():.3g} to "
        f"{popularity[inside].max():.3g} ({findings[test]}); {_p(p_value)}, {n:,} held-out users.",
        way_out,
    )


def _groups_to_compare(length: np.ndarray, popularity: np.ndarray) -> np.ndarray:
    """(n, groups) who is in each stratum, and in each larger group by one property; none where all users are in one."""
    equal = np.zeros(len(length))
    divisions = [strata(length, popularity), strata(length, equal), strata(equal, popularity)]
    return np.column_stack(
        [np.zeros((len(length), 0), bool), *(kinds[:, None] == np.unique(kinds) for kinds in divisions if kinds.any())]
    )


def _distances(groups: np.ndarray, places: Sequence[int]) -> np.ndarray:
    """(1 + levels, groups): how far each group is from an even share of the users in the order of their p-values.

    First the largest distance over the whole order, then that after so many places; each in units of its standard deviation,
    but for a factor that all groups share.
    """
    n, sizes = len(groups), groups.sum(axis=0)
    reached = np.vstack([np.zeros(len(sizes)), np.cumsum(groups, axis=0) / sizes])
    away = np.abs(reached - np.arange(n + 1)[:, None] / n) / np.sqrt(1 / sizes - 1 / n)
    return np.vstack([away.max(axis=0), away[list(places)]])


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
