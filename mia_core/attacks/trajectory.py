"""The attack that compares the target with a reference at several stages of its distillation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mia_core.attacks.contract import HONEST
from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.fused import penalised_regression
from mia_core.attacks.regression import fitted_logit
from mia_core.errors import ModelError


@dataclass(frozen=True)
class LossTrajectory:
    """Logistic regression on the loss under the target and its differences from a reference, epoch by epoch.

    Formula: s(u) = w · (LL_target, LL_target - LL_reference after epoch 1, 2, ...) + w0, fitted on known users
    Source: Liu et al., CCS 2022, arXiv 2208.14933 (TrajectoryMIA).
    Differs: as many epochs as the soft reference is distilled for, not 100; a penalised regression instead of an MLP;
    fitted on the known users instead of a shadow model's; the penalty is chosen by cross-validation on them, where
    the released code keeps the epoch that is best on the test set.
    Relations: with the last epoch alone it is the difference between target and soft reference, learned.
    Fails: Epochs of one reference are much alike, so that a few dozen known users hardly tell their weights apart.
    """

    title: ClassVar[str] = "Loss trajectory"
    summary: ClassVar[str] = "How a copy of the model came, epoch by epoch, to find the user's next items likely."
    access: ClassVar[str] = "logits"
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 on the target, 1 on the reference after each epoch"
    source: ClassVar[str] = "Liu et al. 2022, arXiv 2208.14933"
    needs: ClassVar[frozenset[str]] = frozenset({"trajectory"})
    learned: ClassVar[bool] = True

    def features(self, evidence: Evidence) -> np.ndarray:
        """(n_users, 1 + epochs) mean log-probability under the target, then its lead over each epoch's reference.

        Raises:
            ModelError: no epoch was kept.
        """
        epochs = evidence.replicates("trajectory")
        if not epochs:
            raise ModelError("loss_trajectory needs the reference after each epoch; none was kept: see `trajectory`")
        own = evidence.views["target"].sample_mean("log_probability")
        leads = [own - epoch.sample_mean("log_probability") for epoch in epochs]
        return evidence.user_mean(np.column_stack([own, *leads]))

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) logit."""
        fitted_on = self.features(known.evidence)
        complete = ~np.isnan(fitted_on).any(axis=1)
        model = make_pipeline(StandardScaler(), penalised_regression(known.member[complete]))
        return fitted_logit(model, fitted_on, known.member, self.features(audited))
