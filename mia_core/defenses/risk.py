"""Who stands to lose most by being trained on, told from histories alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def foretold_risks(known: Sequence[str], rise: np.ndarray, popularity: Mapping[str, np.ndarray]) -> dict[str, float]:
    """How much more a target would know of each user than before its training, if they trained it.

    Nothing that a model says of anybody but the known members goes into it, and nobody else's membership, so that who is
    protected tells nothing of them.

    Args:
        known: members whose membership the auditor knows.
        rise: (n_known,) what an unprotected target knows more of each than the model before, nats a token.
        popularity: share of the public users who have each item of a user's history, for everybody.
    Returns:
        the foretold rise of everybody in `popularity`, by a ridge regression on the history's length and on the mean, the
        least, and the spread of its items' log-popularity.
    Source: protecting by a risk score, as RecPS proposes (2025, arXiv 2507.18365). Differs: the score is our own, the
        rise of the log-probability that `target_minus_base` looks at.
    """
    features = {user: _of_history(shares) for user, shares in popularity.items()}
    foretold = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 3, 12)))
    foretold.fit(np.array([features[user] for user in known]), rise)
    told = foretold.predict(np.array([*features.values()]))
    return dict(zip(features, told.tolist(), strict=True))


def without_the_riskiest(users: Sequence[str], risks: Mapping[str, float], share: float) -> list[str]:
    """The users without the share of them who stand to lose most, in their old order."""
    riskiest = set(sorted(users, key=lambda user: (-risks[user], user))[: round(share * len(users))])
    return [user for user in users if user not in riskiest]


def _of_history(shares: np.ndarray) -> list[float]:
    # One in a thousand more, so that an item that no public user has is rare and not infinitely so.
    logs = np.log(np.asarray(shares, dtype=float) + 1e-3) if len(shares) else np.zeros(1)
    return [float(np.log1p(len(shares))), float(logs.mean()), float(logs.min()), float(logs.std())]
