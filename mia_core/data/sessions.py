"""Sessions: visits instead of people, told apart by their ids or by the pauses between a person's interactions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from mia_core.data.interactions import Interactions
from mia_core.errors import ConfigError, DataError

WAYS = ("auto", "none", "id", "gap")


def sessions(
    interactions: Interactions, by: str = "auto", gap_minutes: float = 30.0, shortest: int = 2, longest: int = 20
) -> Interactions:
    """The interactions as sessions, in which consecutive repeats of an item count once.

    Args:
        by: auto: data that consist of sessions are cut to length, all others stay as they are; none: all stay as they are;
            id: what the data call a user is a session; gap: a session ends where more than `gap_minutes` lie between two
            interactions. Sessions cut from a user's history are named after the user and counted from the earliest: ``42/1``.
        shortest: sessions with fewer items are left out.
        longest: of longer sessions the latest items remain.
    Returns:
        the same object where nothing is to be done; else it says in its notes what was left out.
    Raises:
        ConfigError: `by` is unknown.
        DataError: the gaps are not known, or nothing is left.
    Source: the session building of the Transformers4Rec examples (Moreira et al., RecSys 2021).
    """
    if by not in WAYS:
        raise ConfigError(f"data.sessions.by is {by!r}; it must be one of {', '.join(WAYS)}")
    if by == "none" or (by == "auto" and interactions.unit != "session"):
        return interactions
    if by == "gap" and not interactions.has_timestamps:
        raise DataError(
            "data.sessions.by is 'gap', which needs the time of every interaction, and these data have none; choose "
            "by = 'id' if what they call a user is a session, or by = 'none'"
        )
    # Every user's interactions stand together and in order, so that all that follows looks at neighbours only.
    new_user = ~_again("user")
    pause = pl.col("timestamp").diff() > 60 * gap_minutes if by == "gap" else pl.lit(False)
    steps = interactions.frame.select(
        new_user=new_user, begins=(new_user | pause).fill_null(True), repeated=_again("item")
    )
    begins = steps["begins"].to_numpy()
    kept = begins | ~steps["repeated"].to_numpy()
    lengths = _run_lengths(begins[kept])
    # How many items of the same session come from here on.
    to_come = np.repeat(np.cumsum(lengths, dtype=np.int32), lengths) - np.arange(kept.sum(), dtype=np.int32)
    chosen = kept.copy()
    chosen[kept] = (to_come <= longest) & np.repeat(lengths >= shortest, lengths)
    if not chosen.any():
        raise DataError(f"no session has {shortest} different items in a row; lower data.sessions.shortest")
    found = interactions.frame.filter(chosen)
    if by == "gap":
        number = np.cumsum(begins)
        new = steps["new_user"].to_numpy()
        of_user = number - np.repeat(number[new], _run_lengths(new)) + 1
        found = found.with_columns(user=pl.concat_str("user", pl.Series(of_user[chosen]), separator="/"))
    said = _notes(by, gap_minutes, lengths, int((~kept).sum()), shortest, longest)
    if found.height == interactions.frame.height and interactions.unit == "session" and by != "gap":
        return interactions
    present = found["item"].unique().implode()
    items = interactions.items.filter(pl.col("item").is_in(present))
    return replace(interactions, table=found, items=items, notes=(*interactions.notes, *said), unit="session")


def _again(name: str) -> pl.Expr:
    """Whether a row holds what the row before it holds."""
    return pl.col(name).eq_missing(pl.col(name).shift())


def _run_lengths(begins: np.ndarray) -> np.ndarray:
    """(n_runs,) lengths of the runs that begin where it is true."""
    return np.diff(np.append(np.flatnonzero(begins), len(begins))).astype(np.int32)


def _notes(by: str, gap_minutes: float, lengths: np.ndarray, repeated: int, shortest: int, longest: int) -> list[str]:
    short, long = int((lengths < shortest).sum()), int((lengths > longest).sum())
    notes = []
    if by == "gap":
        notes.append(
            f"A session ends where more than {gap_minutes:g} minutes lie between two interactions of a person."
        )
    notes.append(f"{len(lengths) - short} sessions are kept.")
    if repeated:
        notes.append(f"{repeated} interactions with the same item as the one before were left out.")
    if short:
        notes.append(f"{short} sessions of fewer than {shortest} items were left out.")
    if long:
        notes.append(f"{long} sessions are longer than {longest} items; their latest {longest} remain.")
    return notes
