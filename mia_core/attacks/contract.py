"""What every attack is: a frozen dataclass whose fields are its hyperparameters, with one method `score`."""

from __future__ import annotations

from typing import ClassVar, Protocol

import numpy as np

from mia_core.attacks.evidence import Evidence, Known

HONEST = "honest"
PUBLISHED = "published"
DEMONSTRATION = "demonstration"
CONFOUNDED = "confounded"
"""Members and others are served differently, as in published experiments: that is told apart, not training."""
NO_EVIDENCE = (DEMONSTRATION, CONFOUNDED)
"""Attacks whose figures are no evidence of membership."""


class Attack(Protocol):
    """An attack. Adding one: a frozen dataclass with these attributes and one line in `ATTACKS`."""

    title: ClassVar[str]
    summary: ClassVar[str]
    """One plain sentence: the evidence it looks at."""
    access: ClassVar[str]
    """labels only, logits, or white box."""
    status: ClassVar[str]
    passes: ClassVar[str]
    source: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    """What it asks beside the target itself: see `mia_core.observe.views`. With a question mark behind: it can do
    without, where an audit cannot meet it."""
    learned: ClassVar[bool]
    """Whether it is fitted on the known users' labels."""

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) score of each audited user, higher = likelier member, NaN where it cannot be scored.

        A user's score does not depend on which other audited users there are, nor on their order; of attacks that say
        `transductive = True` it does.
        """


def is_transductive(attack: Attack) -> bool:
    """Whether a user's score may depend on who else is judged: the attack learns from all of them, without labels."""
    return bool(getattr(attack, "transductive", False))


def out_of_fold_scores(attack: Attack, known: Known, folds: int = 3, seed: int = 0) -> np.ndarray:
    """(n_users,) score of each known user, from an attack that was fitted without that user's label.

    Used for thresholds and, where only known users have a truth, for the ROC. Cross-fitted references of other
    known users may have been distilled on the user who is scored here; the user's own features never are.
    """
    if not attack.learned:
        return attack.score(known.evidence, known)
    rng = np.random.default_rng(seed)
    part = np.empty(len(known.member), dtype=np.int64)
    for member in (True, False):
        positions = rng.permutation(np.flatnonzero(known.member == member))
        part[positions] = np.arange(len(positions)) % folds
    scores = np.full(len(known.member), np.nan)
    for k in range(folds):
        left_out = np.flatnonzero(part == k)
        scores[left_out] = attack.score(known.evidence.take(left_out), known.take(np.flatnonzero(part != k)))
    return scores
