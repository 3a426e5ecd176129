"""Many-dimensional vectors on a flat map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from mia_core.seeds import generator

MOST = 2_000
"""Rows on a map; of more, so many are drawn at random."""
COMPONENTS = 50
PERPLEXITY = 30.0


def two_dimensional(vectors: np.ndarray, seed: int) -> np.ndarray:
    """(n, 2) places on a map on which neighbours stay neighbours; NaN for rows that were not drawn or are not finite.

    Far distances on it, and its directions, say nothing.

    Source: van der Maaten and Hinton 2008 (t-SNE), after principal components, with scikit-learn.
    """
    places = np.full((len(vectors), 2), np.nan)
    finite = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    rng = generator(seed, "map")
    chosen = np.sort(rng.permutation(finite)[:MOST])
    # Fewer than four rows have no neighbourhoods.
    if len(chosen) < 4:
        return places
    rows = vectors[chosen].astype(np.float64)
    components = PCA(min(COMPONENTS, *rows.shape), random_state=0).fit_transform(rows)
    # It starts from the first two components, very small, and nudged so that no two rows lie on each other.
    start = rng.normal(scale=1e-6, size=(len(rows), 2))
    start[:, : components.shape[1]] += 1e-4 * components[:, :2] / max(1e-9, components[:, 0].std())
    tsne = TSNE(perplexity=min(PERPLEXITY, (len(rows) - 1) / 3), init=start, random_state=0)
    places[chosen] = tsne.fit_transform(components)
    return places


def principal_components(fitted_on: np.ndarray, vectors: Sequence[np.ndarray]) -> list[np.ndarray]:
    """(n, 2) places of each of several sets of vectors on one plane, the two directions in which `fitted_on` varies most.

    Distances and directions on it mean something, and stay the same from one set to the next. NaN for rows that are not
    finite.
    """
    finite = fitted_on[np.isfinite(fitted_on).all(axis=1)].astype(np.float64)
    found = [np.full((len(rows), 2), np.nan) for rows in vectors]
    if len(finite) < 2 or finite.shape[1] < 2:
        return found
    plane = PCA(2, random_state=0).fit(finite)
    for places, rows in zip(found, vectors, strict=True):
        there = np.isfinite(rows).all(axis=1)
        places[there] = plane.transform(rows[there].astype(np.float64))
    return found
