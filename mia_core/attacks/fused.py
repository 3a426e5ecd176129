"""Attacks that fuse several features by MLP up-sampling and logistic regression, fitted on the known users.

Source: Li, Huang, Yin, Sang, arXiv 2511.14763: confidence, entropy and loss are lifted by an MLP to a common width,
concatenated with a hidden vector, then logistic regression with 1,000 iterations.
Differs: features are averaged per user, users are disjoint, hidden vectors are reduced to principal components, the
strength of the penalty is chosen by cross-validation on known users, and the MLP is trained from several seeds whose
logits are averaged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mia_core.attacks.contract import DEMONSTRATION, HONEST, PUBLISHED
from mia_core.attacks.evidence import Evidence, Known
from mia_core.attacks.logit_attack import min_k_plus_plus
from mia_core.attacks.regression import fitted_logit
from mia_core.errors import DataError

PAPER = "Li, Huang, Yin, Sang 2025, arXiv 2511.14763"
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
SCALARS = ("log_probability", "top_probability", "entropy")
KINDS = ("loss", "confidence", "entropy")
"""What each of the scalars is called in `without` and `only`."""
Feature = Literal["", "loss", "confidence", "entropy", "hidden"]


def scalars(evidence: Evidence, view: str) -> np.ndarray:
    """(n_users, 3) mean log-probability (minus the loss), confidence and entropy of one view."""
    observed = evidence.views[view]
    return evidence.user_mean(np.stack([observed.sample_mean(name) for name in SCALARS], axis=1))


def surprise(evidence: Evidence, view: str) -> np.ndarray:
    """(n_users, 1) Min-K%++ of one view: how unsurprising its least expected fifth of answer tokens is."""
    return evidence.user_mean(min_k_plus_plus(evidence.views[view])[:, None])


def hidden(evidence: Evidence, view: str) -> np.ndarray:
    """(n_users, width) last layer's hidden vector of one view, averaged over tokens and windows."""
    return evidence.user_mean(evidence.views[view].hidden[:, -1])


def penalised_regression(member: np.ndarray) -> LogisticRegressionCV:
    """Logistic regression whose penalty is chosen by cross-validation on the same known users."""
    # Every part needs users of both kinds.
    folds = max(2, min(5, int(member.sum()), int((~member).sum())))
    return LogisticRegressionCV(
        Cs=PENALTIES,
        cv=folds,
        scoring="neg_log_loss",
        max_iter=1_000,
        solver="newton-cholesky",
        l1_ratios=(0,),
        use_legacy_attributes=False,
    )


@dataclass(frozen=True)
class Features:
    """What goes into the fused classifier, one row per user."""

    scalars: np.ndarray
    hidden: np.ndarray
    kinds: tuple[str, ...] = KINDS
    """Which feature each scalar column is made of."""

    def chosen(self, without: str, only: str) -> Features:
        """These features less one, or one of them alone.

        Raises:
            DataError: nothing is left.
        """
        wanted = [kind != without and only in ("", kind) for kind in (*self.kinds, "hidden")]
        scalars, hidden = self.scalars[:, wanted[:-1]], self.hidden[:, : self.hidden.shape[1] * wanted[-1]]
        if not scalars.shape[1] and not hidden.shape[1]:
            raise DataError(
                f"without = {without!r} and only = {only!r} leave nothing to look at; hidden vectors of models of different "
                "width cannot be compared"
            )
        return Features(scalars, hidden, tuple(kind for kind, kept in zip(self.kinds, wanted, strict=False) if kept))

    @property
    def complete(self) -> np.ndarray:
        """(n_users,) bool: whether no feature of the user is missing."""
        return ~np.isnan(self.scalars).any(axis=1) & ~np.isnan(self.hidden).any(axis=1)


@dataclass(frozen=True)
class _Fused:
    width: int = 32
    """Width that the MLP lifts the scalars to."""
    components: int = 16
    """Principal components of the hidden part."""
    epochs: int = 150
    weight_decay: float = 1.0
    seeds: int = 3
    """MLPs trained from different seeds; their logits are averaged."""
    upsampling: bool = True
    """False: the standardised scalars stand beside the hidden part as they are."""
    without: Feature = ""
    """A feature that is left out. Min-K%++ counts as loss, being made of the same log-probabilities."""
    only: Feature = ""
    """The one feature that is looked at."""

    access: ClassVar[str] = "white box"
    learned: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset()

    def features(self, evidence: Evidence) -> Features:
        """What this attack looks at."""
        raise NotImplementedError

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) logit of the fused classifier, averaged over the cross-fitting folds' references."""
        resolved = audited.per_fold() if "student" in self.needs else [audited]
        classifier = _Classifier(self, self._chosen(known.evidence), known.member)
        return np.mean([classifier.logit(self._chosen(evidence)) for evidence in resolved], axis=0)

    def _chosen(self, evidence: Evidence) -> Features:
        return self.features(evidence).chosen(self.without, self.only)


class _Classifier:
    """Standardise, reduce the hidden part, lift the scalars, logistic regression."""

    def __init__(self, settings: _Fused, features: Features, member: np.ndarray) -> None:
        scorable = features.complete
        labels = member[scorable]
        self.scale = StandardScaler().fit(features.scalars[scorable]) if features.scalars.shape[1] else None
        self.reduce: PCA | None = None
        if features.hidden.shape[1] and settings.components:
            self.hidden_scale = StandardScaler().fit(features.hidden[scorable])
            standard = self.hidden_scale.transform(features.hidden[scorable])
            components = min(settings.components, *standard.shape)
            self.reduce = PCA(components, whiten=True, random_state=0).fit(standard)
        scalar_part, hidden_part = self._scalars(features.scalars[scorable]), self._hidden(features.hidden[scorable])
        self.networks = None
        if settings.upsampling and self.scale is not None:
            # torch takes seconds to load: an attack must not cost them before it runs.
            from mia_core.models.classifiers import train_upsampling

            self.networks = train_upsampling(
                scalar_part,
                hidden_part,
                labels,
                networks=settings.seeds,
                width=settings.width,
                epochs=settings.epochs,
                weight_decay=settings.weight_decay,
            )
        self.regressions = [
            penalised_regression(labels).fit(np.hstack([part, hidden_part]), labels)
            for part in self._lifted(scalar_part)
        ]

    def _lifted(self, scalar_part: np.ndarray) -> np.ndarray:
        """(networks, n, width) what each network makes of the scalars; the scalars themselves where there is none."""
        if self.networks is None:
            return scalar_part[None]
        from mia_core.models.classifiers import lifted

        return lifted(self.networks, scalar_part)

    def _scalars(self, values: np.ndarray) -> np.ndarray:
        return values if self.scale is None else self.scale.transform(values)

    def _hidden(self, values: np.ndarray) -> np.ndarray:
        if self.reduce is None:
            return np.zeros((len(values), 0))
        return self.reduce.transform(self.hidden_scale.transform(values))

    def logit(self, features: Features) -> np.ndarray:
        """(n_users,) mean logit; NaN where a feature is missing."""
        scores = np.full(len(features.scalars), np.nan)
        scorable = features.complete
        if scorable.any():
            scalar_part = self._scalars(features.scalars[scorable])
            hidden_part = self._hidden(features.hidden[scorable])
            logits = [
                regression.decision_function(np.hstack([part, hidden_part]))
                for part, regression in zip(self._lifted(scalar_part), self.regressions, strict=True)
            ]
            scores[scorable] = np.mean(logits, axis=0)
        return scores


@dataclass(frozen=True)
class Hidden(_Fused):
    """Logistic regression on the target's hidden vectors alone, reduced to principal components.

    Formula: s(u) = w · PCA(mean hidden vector of the last layer) + w0, w from penalised logistic regression on known
        users
    Fails: What a vector holds is mostly taste, not membership: with few known users it learns who likes what.
    """

    title: ClassVar[str] = "Hidden vectors"
    summary: ClassVar[str] = "What the model's inner representation of the user's answers looks like."
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 on the target"
    source: ClassVar[str] = f"{PAPER} (one feature alone)"

    def score(self, audited: Evidence, known: Known) -> np.ndarray:
        """(n_users,) logit."""
        fitted_on, judged = hidden(known.evidence, "target"), hidden(audited, "target")
        scorable = ~np.isnan(fitted_on).any(axis=1)
        model = make_pipeline(
            StandardScaler(),
            PCA(min(self.components, int(scorable.sum()), fitted_on.shape[1]), whiten=True, random_state=0),
            penalised_regression(known.member[scorable]),
        )
        return fitted_logit(model, fitted_on, known.member, judged)


@dataclass(frozen=True)
class FusedTarget(_Fused):
    """Confidence, entropy, loss and hidden vectors of the target alone, fused.

    Formula: s(u) = w · [MLP(loss, confidence, entropy), PCA(hidden)] + w0, mean over networks, fitted on known users
    Fails: Without a reference it cannot tell easy titles from trained ones; it needs a few dozen known users.
    """

    title: ClassVar[str] = "Fused features of the target"
    summary: ClassVar[str] = "Likelihood, confidence, hesitation and inner representation together, target only."
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 on the target"
    source: ClassVar[str] = f"{PAPER} (its fusion, on the target instead of the student)"

    def features(self, evidence: Evidence) -> Features:
        """Target's scalars and hidden vector."""
        return Features(scalars(evidence, "target"), hidden(evidence, "target"))


@dataclass(frozen=True)
class Distillation(_Fused):
    """The target contrasted with references distilled from it, and with the base.

    Scalars: the target's (Min-K%++ among them) and its differences from the base, from the
    cross-fitted two-phase student and from the soft-only references (averaged). Hidden part: differences of
    last-layer vectors where widths agree.
    Formula: f = features of the target; s(u) = w · [MLP(f, f - base, f - student, f - soft references), PCA(hidden
        differences)] + w0, fitted on known users
    Differs: the published attack looks at the student alone, which either met the scored users (a leak) or says
    nothing about them; here references calibrate the target and never meet the users they help to score.
    Relations: with the base as only reference it is close to `target_minus_base`, learned.
    Fails: The references need windows of public users like the audited ones; of the known users it needs a few dozen,
        and where the target hardly changed from its base there is little to contrast.
    """

    title: ClassVar[str] = "Distillation"
    summary: ClassVar[str] = "How the model differs, on this user, from copies of it that never met the user."
    status: ClassVar[str] = HONEST
    passes: ClassVar[str] = "1 on the target, 1 on the base, 1 on each reference"
    source: ClassVar[str] = f"after {PAPER}; contrast form, cross-fitted"
    needs: ClassVar[frozenset[str]] = frozenset({"student", "soft?"})

    def features(self, evidence: Evidence) -> Features:
        """Target's scalars, then its differences from base, student and soft-only references."""

        def measured(view: str) -> np.ndarray:
            return np.hstack([scalars(evidence, view), surprise(evidence, view)])

        own, own_hidden = measured("target"), hidden(evidence, "target")
        groups = [["base"], ["student"], [name for name in evidence.views if name.startswith("soft ")]]
        columns, vectors = [own], []
        for group in groups:
            present = [name for name in group if name in evidence.views]
            if not present:
                continue
            columns.append(own - np.mean([measured(name) for name in present], axis=0))
            others = [hidden(evidence, name) for name in present]
            if all(other.shape == own_hidden.shape for other in others):
                vectors.append(own_hidden - np.mean(others, axis=0))
        empty = np.zeros((len(own), 0))
        # Min-K%++, the last of each group, is made of log-probabilities, as the loss is.
        kinds = (*KINDS, "loss") * len(columns)
        return Features(np.hstack(columns), np.hstack(vectors) if vectors else empty, kinds)


@dataclass(frozen=True)
class DistillationPublished(_Fused):
    """The published form: features of the distilled student alone, with users disjoint.

    Formula: s(u) = w · [MLP(loss, confidence, entropy)_student, PCA(hidden_student)] + w0, fitted on known users
    Fails: The student never met the audited users and the target was never asked about them: hardly any trace of
        their membership can reach the score.
    """

    title: ClassVar[str] = "Distillation, published form"
    summary: ClassVar[str] = "Only the distilled copy is looked at, and it never met the users it is asked about."
    status: ClassVar[str] = PUBLISHED
    passes: ClassVar[str] = "1 on each student"
    source: ClassVar[str] = PAPER
    needs: ClassVar[frozenset[str]] = frozenset({"student"})

    def features(self, evidence: Evidence) -> Features:
        """The cross-fitted student's scalars and hidden vector."""
        return Features(scalars(evidence, "student"), hidden(evidence, "student"))


@dataclass(frozen=True)
class DistillationLeaking(_Fused):
    """The published form with a student that met the scored users, labels and all.

    Shown to explain published figures: phase one trains on held-out users and phase two on members, so the student
    carries the very labels that its features are then asked to predict, target or no target.
    Formula: as `distillation_published`, with a student that was trained on the scored users according to their
        labels
    Fails: As evidence it always does: its figure says how much a mistake in the protocol is worth, not what the
        target gave away. It is high on a target that saw nobody.
    """

    title: ClassVar[str] = "Distillation, leaking demonstration"
    summary: ClassVar[str] = (
        "The copy was trained on the answers it is tested on: a demonstration of how figures inflate."
    )
    status: ClassVar[str] = DEMONSTRATION
    passes: ClassVar[str] = "1 on the leaking student"
    source: ClassVar[str] = f"{PAPER} (as it reads if the scored users were distilled on)"
    needs: ClassVar[frozenset[str]] = frozenset({"leaking"})

    def features(self, evidence: Evidence) -> Features:
        """The leaking student's scalars and hidden vector."""
        return Features(scalars(evidence, "leaking"), hidden(evidence, "leaking"))
