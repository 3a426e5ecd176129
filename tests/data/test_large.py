"""Data that are too many to be held give what they would give in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mia_core.data import library
from mia_core.data.formats import load
from mia_core.data.interactions import Interactions
from mia_core.data.profile import profile
from mia_core.data.split import split_users
from mia_core.data.thinning import thin
from mia_core.errors import DataError
from mia_core.seeds import generator
from mia_core.storage.store import Store
from mia_core.types import Role


def rows(seed: int = 0, count: int = 4_000) -> pl.DataFrame:
    """Interactions with all that may be wrong with them: repetitions, empty fields, spaces, equal times."""
    rng = np.random.default_rng(seed)
    users = [f" u{i % 97}" if i % 50 else "" for i in rng.integers(0, 300, count)]
    items = [f"i{i}" if i else None for i in rng.integers(0, 60, count)]
    return pl.DataFrame(
        {
            "user": users,
            "item": items,
            "rating": rng.integers(1, 11, count) / 2,
            "timestamp": 1_500_000_000 + rng.integers(0, 500, count),
        }
    )


def few_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MOST_IN_MEMORY", 500), ("ROWS_AT_ONCE", 300), ("ROWS_OF_A_BUCKET", 700)):
        for module in ("tables", "interactions"):
            monkeypatch.setattr(f"mia_core.data.{module}.{name}", value, raising=False)


def write(table: pl.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        table.write_parquet(path)
    elif path.suffix == ".jsonl":
        table.write_ndjson(path)
    else:
        table.write_csv(path)
    return path


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.jsonl", "session.csv"])
@pytest.mark.parametrize("times", ["all", "some", "none"])
def test_they_are_read_as_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store, name: str, times: str
) -> None:
    table = rows()
    if times != "all":
        there = pl.int_range(pl.len()) % 3 > 0 if times == "some" else pl.lit(False)
        table = table.with_columns(timestamp=pl.when(there).then("timestamp"))
    if name.startswith("session"):
        table = table.rename({"user": "session_id"})
    path = write(table if times != "none" else table.drop("timestamp"), tmp_path / name)
    small = load(path)
    few_in_memory(monkeypatch)
    large = load(path)
    assert isinstance(small.table, pl.DataFrame)
    assert isinstance(large.table, Path)
    same(large, small)
    kept = library.load_saved(store, library.save(store, large, "large"))
    assert isinstance(kept.table, Path)
    assert kept.table != large.table
    same(kept, small)


def same(large: Interactions, small: Interactions) -> None:
    assert large.frame.equals(small.frame)
    assert large.items.equals(small.items)
    assert (large.notes, large.unit, large.key) == (small.notes, small.unit, small.key)
    assert large.summary() == small.summary()
    assert pl.concat(large.parts()).equals(small.frame)
    for part in large.parts():
        others = small.frame.filter(pl.col("user").is_in(part["user"].unique().implode()))
        assert part.equals(others), "a user was cut in two"


def test_they_are_split_profiled_and_thinned_as_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(rows(), tmp_path / "a.parquet")
    small = load(path)
    few_in_memory(monkeypatch)
    large = load(path)
    shares = (0.2, 0.5, 1 / 3)
    assert split_users(large, *shares, seed=3).roles == split_users(small, *shares, seed=3).roles
    mine, its = profile(large), profile(small)
    assert mine.popularity.equals(its.popularity)
    assert mine.months.equals(its.months)
    assert (sorted(mine.lengths), mine.some_users, mine.summary) == (sorted(its.lengths), its.some_users, its.summary)
    for how in ({"keep_users": 0.5}, {"keep_items": 0.3}, {"shortest_history": 30, "longest_history": 7}):
        same_part(thin(large, 1, **how), thin(small, 1, **how))  # type: ignore[arg-type]


def same_part(large: Interactions, small: Interactions) -> None:
    assert large.frame.equals(small.frame)
    assert large.items.equals(small.items)
    assert large.notes == small.notes


def test_what_is_wrong_with_a_row_is_said_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few_in_memory(monkeypatch)
    table = rows()
    future = table.with_columns(
        timestamp=pl.when(pl.int_range(pl.len()) == 1_234).then(9_999_999_999).otherwise("timestamp")
    )
    with pytest.raises(DataError, match=r"line 1235, column timestamp: 9999999999 is in the future \(1 such rows\)"):
        load(write(future, tmp_path / "future.parquet"))
    words = table.with_columns(pl.col("rating").cast(pl.String))
    words = words.with_columns(rating=pl.when(pl.int_range(pl.len()) == 2_000).then(pl.lit("good")).otherwise("rating"))
    with pytest.raises(DataError, match="line 2002, column 'rating': 'good' is not a number"):
        load(write(words, tmp_path / "words.csv"))
    cut_off = write(table.drop("timestamp"), tmp_path / "cut.csv")
    cut_off.write_text(cut_off.read_text() + "u1,i1\n")
    with pytest.raises(DataError, match="line 4002: 2 fields where the header has 3"):
        load(cut_off)


def slow_split(data: Interactions, public: float, member: float, known: float, seed: int) -> dict[str, Role]:
    """The draw as it is defined, one user at a time."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for user in sorted(set(data.frame["user"])):
        groups.setdefault(tuple(data.frame.filter(user=user)["item"]), []).append(user)
    histories = sorted(groups.values())
    total = data.frame["user"].n_unique()
    n_public = round(public * total)
    n_members = round(member * (total - n_public))
    n_known, n_others = round(known * n_members), round(known * (total - n_public - n_members))
    room = [
        (Role.PUBLIC, n_public),
        (Role.KNOWN_MEMBER, n_known),
        (Role.AUDITED_MEMBER, n_members - n_known),
        (Role.KNOWN_HELD_OUT, n_others),
        (Role.AUDITED_HELD_OUT, total),
    ]
    roles: dict[str, Role] = {}
    for position in generator(seed, "split").permutation(len(histories)):
        while room[0][1] <= 0:
            room.pop(0)
        role, left = room[0]
        roles |= dict.fromkeys(histories[position], role)
        room[0] = (role, left - len(histories[position]))
    return roles


@pytest.mark.parametrize("seed", range(4))
def test_equal_histories_share_a_coin_as_one_user_at_a_time(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Few items and short histories: many are the same, many are the same items in another order.
    users = np.repeat(np.arange(120), rng.integers(1, 4, 120))
    table = pl.DataFrame({"user": [f"u{u}" for u in users], "item": [f"i{i}" for i in rng.integers(0, 6, len(users))]})
    data = load(write(table, tmp_path / "a.csv"))
    assert split_users(data, 0.2, 0.5, 1 / 3, seed).roles == slow_split(data, 0.2, 0.5, 1 / 3, seed)
