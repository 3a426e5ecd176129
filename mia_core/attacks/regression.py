"""Classifiers of scikit-learn, fitted on the known users."""

from __future__ import annotations

import numpy as np
from sklearn.base import ClassifierMixin


def fitted_logit(classifier: ClassifierMixin, known: np.ndarray, member: np.ndarray, audited: np.ndarray) -> np.ndarray:
    """(n_audited,) logit of a scikit-learn classifier fitted on the known rows; NaN where a row lacks a feature."""
    complete = ~np.isnan(known).any(axis=1)
    askable = ~np.isnan(audited).any(axis=1)
    logits = np.full(len(audited), np.nan)
    if askable.any():
        logits[askable] = classifier.fit(known[complete], member[complete]).decision_function(audited[askable])
    return logits
