"""Was this one interaction used? Asked of a classic recommender that was not trained on some of each member's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse
from sklearn.metrics import roc_auc_score

from mia_core.attacks.interaction_level import Interactions, interaction_scores
from mia_core.audit.exposures import exposures_of
from mia_core.audit.stages import Run
from mia_core.evaluate.intervals import mean_interval
from mia_core.report.results import InteractionFigure
from mia_core.seeds import derive_seed
from mia_core.types import Role


def interaction_figures(run: Run) -> list[InteractionFigure]:
    """How often, of two items of one audited member, the one that was trained on is told, by three kinds of evidence.

    A figure is the mean over members of their own AUC, so that one member is one observation; members all of whose items, or
    none, were trained on have none.
    """
    settings = run.experiment.recommender
    if not settings.left_out or run.experiment.target.world == "null":
        return []
    exposures = exposures_of(run)
    row_of = {user: row for row, user in enumerate(run.members_trained_on)}
    members = [user for user in run.split.users(Role.AUDITED_MEMBER) if user in row_of]
    whole = exposures.histories(run.windows(members))
    trained = exposures.trained_on(members, settings.left_out)
    used = np.asarray(trained[whole.nonzero()]).ravel() > 0
    user = whole.nonzero()[0]
    strangers = exposures.histories(run.windows(run.split.users(Role.KNOWN_HELD_OUT, Role.AUDITED_HELD_OUT)))
    served = exposures.recommender
    held_out = _of(served.scores(strangers), strangers)
    rows = np.array([row_of[name] for name in members])
    evidence = {
        "popularity": np.log(run.catalogue.share[whole.nonzero()[1]] + 1 / max(1, run.catalogue.users)),
        "history": interaction_scores(_of(served.scores(whole), whole), held_out, run.catalogue.share),
        "own vector": interaction_scores(_of(served.own_scores(rows), whole), held_out, run.catalogue.share),
    }
    return [_figure(run, name, scores, used, user) for name, scores in evidence.items()]


def _of(scores: np.ndarray, histories: scipy.sparse.csr_array) -> Interactions:
    return Interactions(scores, *histories.nonzero())


def _figure(run: Run, name: str, scores: np.ndarray, used: np.ndarray, user: np.ndarray) -> InteractionFigure:
    config = run.experiment.evaluation
    ends = np.flatnonzero(np.diff(user)) + 1
    parts: Sequence[tuple[np.ndarray, np.ndarray]] = list(
        zip(np.split(used, ends), np.split(scores, ends), strict=True)
    )
    told = np.array([roc_auc_score(mine, values) for mine, values in parts if 0 < mine.sum() < len(mine)])
    seed = derive_seed(run.experiment.seed, "interactions", name)
    value, low, high = mean_interval(told, config.confidence, config.resamples, seed)
    return InteractionFigure(name, value, low, high, users=len(told), interactions=len(used))
