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
    popular = _popular(interactions, keep_items) if keep_items is not None else pl.Series("item", [], pl.String)

    def shortened(part: pl.DataFrame) -> pl.DataFrame:
        if keep_items is not None:
            part = part.filter(pl.col("item").is_in(popular.implode()))
        if shortest_history is not None:
            part = part.filter(pl.len().over("user") >= shortest_history)
        if longest_history is not None:
            # Each user's interactions stand in order, the latest last.
            part = part.filter(pl.int_range(pl.len()).over("user") + longest_history >= pl.len().over("user"))
        return part

    drawn = pl.Series("user", [], pl.String)
    if keep_users is not None:
        users = pl.concat(shortened(part)["user"].unique() for part in interactions.parts()).sort()
        order = generator(seed, "thinned users").permutation(len(users))
        drawn = users.gather(order[: math.ceil(keep_users * len(users))])

    def thinned(part: pl.DataFrame) -> pl.DataFrame:
        return shortened(part if keep_users is None else part.filter(pl.col("user").is_in(drawn.implode())))

    found = interactions.changed(thinned)
    if not len(found.counts):
        raise DataError("data.thin leaves no interaction; keep more users or items, or shorter histories")
    present = found.rows.select(pl.col("item").unique()).collect(engine="streaming")["item"]
    items_left = interactions.items.filter(pl.col("item").is_in(present.implode()))
    return replace(found, items=items_left, notes=(*interactions.notes, _note(interactions, found)))


def _popular(interactions: Interactions, share: float) -> pl.Series:
    """So large a share of the items, the most popular ones."""
    ranked = interactions.rows.group_by("item").len().collect(engine="streaming")
    items = ranked.sort(["len", "item"], descending=[True, False])["item"]
    return items.head(math.ceil(share * len(items)))


def _note(before: Interactions, after: Interactions) -> str:
    def size(data: Interactions) -> str:
        return f"{len(data.lengths):,} users, {len(data.counts):,} items, {data.lengths.sum():,} interactions"

    return f"Thinned on purpose (data.thin): {size(after)} of {size(before)}."
