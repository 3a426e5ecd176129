"""Parts of one data set that differ in density, history length or popularity skew and in nothing else."""

from __future__ import annotations

import math
from dataclasses import replace

import polars as pl

from mia_core.data.interactions import Interactions
from mia_core.errors import DataError
from mia_core.seeds import generator


def thin(
    interactions: Interactions,
    seed: int,
    *,
    keep_users: float | None = None,
    keep_items: float | None = None,
    shortest_history: int | None = None,
    longest_history: int | None = None,
) -> Interactions:
    """A part of the interactions: items first, then the length of histories, then users.

    Args:
        interactions: the whole.
        seed: of the draw of users; a smaller share of users is contained in a larger one.
        keep_users: share of the users, drawn at random.
        keep_items: share of the items, the ones with most interactions; of equally popular ones, the first by id.
        shortest_history: users with fewer interactions are left out, counted after the choice of items.
        longest_history: of longer histories only the latest interactions remain.
    Returns:
        the same object where nothing is asked for; else it says in its notes what was left out.
    Raises:
        DataError: nothing is left.
    """
    if keep_users is keep_items is shortest_history is longest_history is None:
        return interactions
    frame = interactions.frame
    if keep_items is not None:
        ranked = frame.group_by("item").len().sort(["len", "item"], descending=[True, False])
        kept = ranked.head(math.ceil(keep_items * ranked.height))["item"]
        frame = frame.filter(pl.col("item").is_in(kept.implode()))
    if shortest_history is not None:
        frame = frame.filter(pl.len().over("user") >= shortest_history)
    if longest_history is not None:
        # Each user's interactions stand in order, the latest last.
        frame = frame.filter(pl.int_range(pl.len()).over("user") + longest_history >= pl.len().over("user"))
    if keep_users is not None:
        users = frame["user"].unique().sort()
        order = generator(seed, "thinned users").permutation(len(users))
        drawn = users.gather(order[: math.ceil(keep_users * len(users))])
        frame = frame.filter(pl.col("user").is_in(drawn.implode()))
    if frame.is_empty():
        raise DataError("data.thin leaves no interaction; keep more users or items, or shorter histories")
    items = interactions.items.filter(pl.col("item").is_in(frame["item"].unique().implode()))
    return replace(
        interactions, frame=frame, items=items, notes=(*interactions.notes, _note(interactions.frame, frame))
    )


def _note(before: pl.DataFrame, after: pl.DataFrame) -> str:
    def size(frame: pl.DataFrame) -> str:
        return f"{frame['user'].n_unique():,} users, {frame['item'].n_unique():,} items, {frame.height:,} interactions"

    return f"Thinned on purpose (data.thin): {size(after)} of {size(before)}."
