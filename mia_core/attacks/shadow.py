"""The attack that learns from shadow models what membership looks like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mia_core.attacks.contract import HONEST
from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.fused import scalars
from mia_core.errors import ModelError


@dataclass(frozen=True)
class ShadowClassifier:
    """Logistic regression that separates users inside from users outside shadow models, applied to the target.

    Source: Shokri et al. 2017, arXiv 1610.05820.
    Differs: shadows are trained on random halves of the users by coins that are independent of membership; features
    are loss, confidence and entropy averaged per user, not the output vector. It learns from the known users' coins
    only, so that an audited user's score does not depend on who else is audited.
    """

    penalty: float = 1.0

    title: ClassVar[str] = "Shadow-model classifier"
    summary: ClassVar[str] = "What membership looks like in models trained on random halves of the users."
    access: ClassVar[str] = "logits"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 on the target, 1 on each shadow"
    source: ClassVar[str] = "Shokri et al. 2017, arXiv 1610.05820"
    needs: ClassVar[frozenset[str]] = frozenset({"shadows"})
    learned: ClassVar[bool] = False

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) logit."""
        inside = known.evidence.shadow_in
        if inside is None:
            raise ModelError("shadow_classifier needs shadow models; raise attacks.shadows to 2 or more")
        rows = np.vstack([scalars(known.evidence, f"shadow {k}") for k in range(inside.shape[1])])
        labels = inside.T.reshape(-1)
        scorable = ~np.isnan(rows).any(axis=1)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=self.penalty, max_iter=1_000))
        model.fit(rows[scorable], labels[scorable])
        judged = scalars(audited, "target")
        scores = np.full(len(judged), np.nan)
        askable = ~np.isnan(judged).any(axis=1)
        if askable.any():
            scores[askable] = model.decision_function(judged[askable])
        return scores
