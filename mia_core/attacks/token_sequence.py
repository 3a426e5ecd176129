"""The attack that reads an answer token by token instead of averaging it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mia_core.attacks.contract import HONEST
from mia_core.attacks.evidence import Evidence, Known

LARGEST = 5.0
"""Statistics are cut off so many deviations from their mean."""


@dataclass(frozen=True)
class TokenSequence:
    """Mean logit of small recurrent networks over the per-token statistics of target and base.

    Formula: s(u) = mean over windows of GRU(x_1, ..., x_T), x_t = (log p, entropy, log rank, top p)_target and the
        same less the base's, trained on known users
    Source: Ilić et al. 2026, arXiv 2604.03199 (LT-MIA: a sequence classifier over statistics of a fine-tuned model and
    of the model before).
    Differs: trained on this target's known users instead of on other fine-tuned models; a small GRU instead of a
    transformer; five statistics per token; logits are averaged over a user's windows and over seeds. Windows are
    weighted so that every known user counts the same.
    Fails: A network on a few hundred windows learns by heart what it should generalise from; short titles give it no
        sequence.
    """

    width: int = 16
    """Width of the recurrent state."""
    steps: int = 100
    """Batches that each network is trained on."""
    batch: int = 128
    """Windows in a batch."""
    weight_decay: float = 0.3
    networks: int = 3
    """Networks from different seeds, whose logits are averaged."""

    title: ClassVar[str] = "Token sequence"
    summary: ClassVar[str] = "What fine-tuning did to the user's answers token by token, judged by a small network."
    access: ClassVar[str] = "logits"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 on the target, 1 on the base"
    source: ClassVar[str] = "Ilić et al. 2026, arXiv 2604.03199"
    needs: ClassVar[frozenset[str]] = frozenset({"base"})
    learned: ClassVar[bool] = True

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) mean logit."""
        # torch takes seconds to load: an attack must not cost them before it runs.
        from mia_core.models.classifiers import token_logits, train_token_networks

        user = known.evidence.user_index
        windows = np.bincount(user, minlength=len(known.member))
        weight = 1.0 / windows[user]
        fitted_on = token_statistics(known.evidence)
        centre, spread = fitted_on.mean(axis=0), np.maximum(fitted_on.std(axis=0), 1e-6)

        def standard(statistics: np.ndarray) -> np.ndarray:
            return np.clip((statistics - centre) / spread, -LARGEST, LARGEST)

        networks = train_token_networks(
            standard(fitted_on),
            known.evidence.views["target"].offsets,
            known.member[user],
            weight / weight.mean(),
            networks=self.networks,
            width=self.width,
            steps=self.steps,
            batch=self.batch,
            weight_decay=self.weight_decay,
        )
        judged = standard(token_statistics(audited))
        return audited.user_mean(token_logits(networks, judged, audited.views["target"].offsets))


def token_statistics(evidence: Evidence) -> np.ndarray:
    """(total, 8) what the target says of each answer token, then how that differs from the base.

    Log-probability, entropy, logarithm of the rank, top probability.
    """
    target, base = (
        np.stack(
            [view.log_probability, view.entropy, np.log1p(view.rank), view.top_probability], axis=1, dtype=np.float64
        )
        for view in (evidence.views["target"], evidence.views["base"])
    )
    return np.hstack([target, target - base])
