"""What an attack may look at: observations of users under several views. Membership is not among it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mia_core.observe.observations import Observations


@dataclass(frozen=True)
class Background:
    """Counts over public users, which no membership can reach."""

    token_share: np.ndarray
    """(vocabulary,) share of each token among the public users' answers, one added to every count."""
    item_share: np.ndarray
    """(n_items,) share of public users who have each item of the catalogue."""
    item_vectors: np.ndarray
    """(n_items, width) float32 of length one, or zero where no public user has the item: items that the same
    people have lie close together."""
    token_vectors: np.ndarray
    """(vocabulary, width) float32 token embeddings of the base (of the target, where there is no base)."""


@dataclass(frozen=True)
class Evidence:
    """Observations of users, grouped by view; there is no membership field."""

    users: tuple[str, ...]
    user_index: np.ndarray
    """(n_samples,) position in `users` of each sample's user."""
    views: Mapping[str, Observations]
    """One entry per view that is the same for everybody: target, base, soft (several: soft 0, soft 1, …)."""
    cross_fitted: Mapping[str, Sequence[Observations]] = field(default_factory=dict)
    """Views with one model per fold of the known users; model k never met the users of fold k."""
    shadow_in: np.ndarray | None = None
    """(n_users, n_shadows) bool: the coins that put a user into a shadow model, independent of membership."""
    signals: Mapping[str, np.ndarray] = field(default_factory=dict)
    """(n_samples, …) values per sample that are no token observations: see `mia_core.observe.views.SIGNALS`."""
    lists: Mapping[str, np.ndarray] = field(default_factory=dict)
    """(n_samples, …) catalogue positions of the items that the target recommended, best first; -1: not an item of
    the catalogue. See `mia_core.observe.views.LISTS`."""
    background: Background | None = None
    """What public users alone say about tokens and items."""
    shadow_world: Known | None = None
    """Other people, and a recommender of the auditor's own that was trained on half of them; the same for every user."""

    def user_mean(self, values: np.ndarray) -> np.ndarray:
        """(n_users, …) mean over each user's samples; NaN where a user has none."""
        values = np.asarray(values, dtype=np.float64)
        total = np.zeros((len(self.users), *values.shape[1:]))
        np.add.at(total, self.user_index, values)
        counts = np.bincount(self.user_index, minlength=len(self.users)).astype(np.float64)
        counts[counts == 0] = np.nan
        return total / counts.reshape(-1, *[1] * (values.ndim - 1))

    def replicates(self, name: str) -> list[Observations]:
        """All views of one kind in the order of their numbers: "soft 0", "soft 1", … for "soft"."""
        found: list[Observations] = []
        while f"{name} {len(found)}" in self.views:
            found.append(self.views[f"{name} {len(found)}"])
        return found

    def take(self, positions: np.ndarray) -> Evidence:
        """The evidence on the users at these positions, in this order."""
        new_position = np.full(len(self.users), -1)
        new_position[positions] = np.arange(len(positions))
        samples = np.flatnonzero(new_position[self.user_index] >= 0)
        return replace(
            self,
            users=tuple(self.users[i] for i in positions),
            user_index=new_position[self.user_index[samples]],
            views={name: view.take(samples) for name, view in self.views.items()},
            cross_fitted={name: [v.take(samples) for v in models] for name, models in self.cross_fitted.items()},
            shadow_in=None if self.shadow_in is None else self.shadow_in[positions],
            signals={name: values[samples] for name, values in self.signals.items()},
            lists={name: items[samples] for name, items in self.lists.items()},
        )

    def per_fold(self) -> list[Evidence]:
        """One evidence per cross-fitting fold, its models among the views; [self] where nothing is cross-fitted."""
        folds = {len(models) for models in self.cross_fitted.values()}
        if not folds:
            return [self]
        resolved = []
        for k in range(folds.pop()):
            chosen = {name: models[k] for name, models in self.cross_fitted.items()}
            resolved.append(replace(self, views={**self.views, **chosen}, cross_fitted={}))
        return resolved

    def unmet(self, fold: np.ndarray) -> Evidence:
        """The evidence in which each user is seen by the cross-fitted models that never met them.

        Args:
            fold: (n_users,) int, the fold of each user.
        """
        choice = fold[self.user_index]
        mixed = {name: type(models[0]).mixed(models, choice) for name, models in self.cross_fitted.items()}
        return replace(self, views={**self.views, **mixed}, cross_fitted={})


@dataclass(frozen=True)
class Known:
    """The auditor's labelled users: the only place where membership may be looked at."""

    evidence: Evidence
    """Cross-fitted views are resolved: each user is seen by the model that was not distilled on them."""
    member: np.ndarray
    """(n_users,) bool."""

    def take(self, positions: np.ndarray) -> Known:
        """The known users at these positions."""
        return Known(self.evidence.take(positions), self.member[positions])
