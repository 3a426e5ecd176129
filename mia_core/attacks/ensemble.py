"""The attack that puts the strongest simple scores together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mia_core.attacks.contract import HONEST
from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.fused import penalised_regression
from mia_core.attacks.logit_attack import min_k_plus_plus
from mia_core.attacks.regression import fitted_logit


@dataclass(frozen=True)
class Ensemble:
    """Penalised logistic regression on at most eight standardised scores per user.

    Formula: s(u) = w · (up to eight standardised scores) + w0, w from penalised logistic regression on known users
    Source: after Maini et al., NeurIPS 2024, arXiv 2406.06443 (many attacks' scores under one linear classifier).
    Differs: eight features instead of some fifty, so that a few dozen known users are enough; one row per user.
    Relations: `best_single_feature` says how far one of the eight comes alone, which is to be printed beside it.
    Fails: It is seldom much better than its best part, which is printed beside it, and its weights rest on few known
        users.
    """

    title: ClassVar[str] = "Ensemble"
    summary: ClassVar[str] = "Eight simple scores of the user's answers, weighed by what they say of known users."
    access: ClassVar[str] = "logits"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "2 on the target, 2 on the base, 1 on each reference, 1 on each swapped answer"
    source: ClassVar[str] = "after Maini et al. 2024, arXiv 2406.06443"
    needs: ClassVar[frozenset[str]] = frozenset(
        {"base?", "soft?", "target/no_history?", "base/no_history?", "target/answer_swapped?"}
    )
    learned: ClassVar[bool] = True

    def features(self, evidence: Evidence) -> dict[str, np.ndarray]:
        """(n_users,) of each score whose views are there, all of them higher for likelier members."""
        views = evidence.views

        def likelihood(view: str) -> np.ndarray:
            return views[view].sample_mean("log_probability")

        def lead(over: str) -> np.ndarray:
            others = [other.sample_mean("log_probability") for other in evidence.replicates(over)]
            return likelihood("target") - np.mean(others, axis=0)

        found = {
            "loss": likelihood("target"),
            "entropy": -views["target"].sample_mean("entropy"),
            "confidence": views["target"].sample_mean("top_probability"),
        }
        if "base" in views:
            found["target minus base"] = likelihood("target") - likelihood("base")
            found["Min-K%++ minus base"] = min_k_plus_plus(views["target"]) - min_k_plus_plus(views["base"])
        if "soft 0" in views:
            found["target minus soft reference"] = lead("soft")
        if {"base", "target/no_history", "base/no_history"} <= set(views):
            # What the history adds for the target, beyond what it adds for the base.
            gain = likelihood("target") - likelihood("target/no_history")
            found["history ablation"] = gain - (likelihood("base") - likelihood("base/no_history"))
        if "target/answer_swapped 0" in views:
            found["neighbourhood"] = lead("target/answer_swapped")
        return {name: evidence.user_mean(values) for name, values in found.items()}

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) logit."""
        fitted_on, judged = self.features(known.evidence), self.features(audited)
        rows, asked = (np.column_stack([of[name] for name in judged]) for of in (fitted_on, judged))
        complete = ~np.isnan(rows).any(axis=1)
        model = make_pipeline(StandardScaler(), penalised_regression(known.member[complete]))
        return fitted_logit(model, rows, known.member, asked)

    def best_single_feature(self, known: Known, folds: int = 5) -> tuple[str, float]:
        """The feature with the highest AUC on the known users, and the AUC that choosing so earns on users left out.

        A feature is used as it is, its sign included; in each fold the best one on the other folds is judged, so the
        AUC is not the highest of eight.
        """
        features = self.features(known.evidence)
        scored = np.flatnonzero(~np.isnan(features["loss"]))
        member = known.member[scored]

        def auc(name: str, among: np.ndarray) -> float:
            return float(roc_auc_score(member[among], features[name][scored][among]))

        def best(among: np.ndarray) -> str:
            return max(features, key=lambda name: auc(name, among))

        folds = max(2, min(folds, int(member.sum()), int((~member).sum())))
        parts = StratifiedKFold(folds, shuffle=True, random_state=0).split(scored, member)
        return best(np.arange(len(scored))), float(np.mean([auc(best(rest), left_out) for rest, left_out in parts]))
