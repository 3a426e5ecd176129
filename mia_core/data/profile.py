"""What interaction data are like, in figures and small tables that stay small whatever the data's size."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mia_core.data.interactions import Interactions
from mia_core.data.prompts import PROMPT_STYLES, SEPARATOR, events_by_user, prompt_writer
from mia_core.errors import DataError
from mia_core.seeds import generator

if TYPE_CHECKING:
    from mia_core.experiment import Prompt

MOST_POINTS = 300
"""Of a curve."""
MOST_USERS = 200
"""That are offered for a look at their prompts; any other can be named."""
_COUNTED = re.compile(r"(?:^|: )(\d[\d,]*) (.+)$")


@dataclass(frozen=True)
class Profile:
    """One data set at a glance."""

    summary: dict[str, Any]
    """See `Interactions.summary`."""
    lengths: np.ndarray
    """(users,) interactions of each user, in no order."""
    popularity: pl.DataFrame
    """rank (1 = had by most), users; thinned, evenly on a logarithmic axis."""
    months: pl.DataFrame
    """month (date), interactions; months without any stand in between. Empty where there are no times."""
    dropped: pl.DataFrame
    """rows, what: what was left out or changed, where it was counted."""
    remarks: list[str]
    """What else the reader of the file says."""
    some_users: list[str]
    """Users with long histories and short ones, drawn once."""


def profile(interactions: Interactions) -> Profile:
    """The profile of a data set."""
    dropped, remarks = parted(interactions.notes)
    users = interactions.users
    drawn = generator(0, "preview").permutation(len(users))[:MOST_USERS]
    return Profile(
        interactions.summary(),
        interactions.lengths,
        _thinned(np.sort(interactions.counts)[::-1]),
        _months(interactions.rows)
        if interactions.has_timestamps
        else pl.DataFrame(schema={"month": pl.Date, "interactions": pl.UInt32}),
        dropped,
        remarks,
        users.gather(np.sort(drawn)).to_list(),
    )


def parted(notes: Sequence[str]) -> tuple[pl.DataFrame, list[str]]:
    """(rows, what: notes that count something; all other notes)."""
    rows, others = [], []
    for note in notes:
        found = _COUNTED.search(note)
        if found:
            rows.append(
                {
                    "rows": int(found[1].replace(",", "")),
                    "what": note[: found.start()] + ": " * bool(found.start()) + found[2],
                }
            )
        else:
            others.append(note)
    return pl.DataFrame(rows, schema={"rows": pl.Int64, "what": pl.String}), others


def _thinned(counts: np.ndarray) -> pl.DataFrame:
    ranks = np.unique(np.geomspace(1, max(1, len(counts)), MOST_POINTS).round().astype(int))
    return pl.DataFrame({"rank": ranks, "users": counts[ranks - 1]})


def _months(rows: pl.LazyFrame) -> pl.DataFrame:
    month = pl.from_epoch("timestamp", time_unit="s").dt.truncate("1mo").dt.date().alias("month")
    counted = rows.group_by(month).agg(interactions=pl.len()).collect(engine="streaming").sort("month")
    first, last = counted["month"][0], counted["month"][-1]
    every = pl.date_range(first, last, "1mo", eager=True).alias("month").to_frame()
    return every.join(counted, on="month", how="left").with_columns(pl.col("interactions").fill_null(0))


@dataclass(frozen=True)
class Asked:
    """What a model is asked about one window, and what it is expected to answer."""

    prompt: str
    answer: str


def prompts_of(interactions: Interactions, user: str, config: Prompt) -> list[Asked]:
    """Every window of a user in the words of a prompt style, the latest first.

    Relations: `prompts.audit_samples` writes these same texts; what counts as liked is the median of everybody here, of third
        parties alone there.
    Raises:
        DataError: there is no such user.
    """
    everybody = interactions.users.to_list() if PROMPT_STYLES[config.style].needs_ratings else []
    writer = prompt_writer(interactions, config, everybody)
    mine = Interactions(
        interactions.rows.filter(pl.col("user") == user).collect(engine="streaming"), interactions.items
    )
    if mine.frame.is_empty():
        raise DataError(f"{user[:80]!r}: nobody of this id is in these data; ids are compared letter by letter")
    events = events_by_user(mine, writer).get(user, [])
    told = [writer.words(window) for window in writer.windows(events)]
    return [Asked(prompt, answer.replace(SEPARATOR, " → ")) for prompt, answer in reversed(told)]
