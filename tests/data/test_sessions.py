from __future__ import annotations

import os
from itertools import groupby
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mia_core.data.formats import load
from mia_core.data.interactions import Interactions, validate
from mia_core.data.sessions import sessions
from mia_core.errors import ConfigError, DataError

REAL = os.environ.get("MIA_REAL_DATA", "")


def clicks(histories: dict[str, str], unit: str = "session") -> Interactions:
    """A letter is an item; no times."""
    rows = [(user, item) for user, items in histories.items() for item in items]
    return validate(pl.DataFrame(rows, schema=["user", "item"], orient="row"), unit=unit)


def visits(times: dict[str, list[tuple[str, int]]]) -> Interactions:
    """Items with their minutes."""
    rows = [(user, item, 60 * minute) for user, items in times.items() for item, minute in items]
    frame = pl.DataFrame(rows, schema={"user": pl.String, "item": pl.String, "timestamp": pl.Int64}, orient="row")
    return validate(frame, repeats=True)


def items_of(interactions: Interactions) -> dict[str, str]:
    found: dict[str, str] = {}
    for user, item in interactions.frame.select("user", "item").iter_rows():
        found[user] = found.get(user, "") + item
    return found


def test_repeats_in_a_row_count_once_and_lengths_are_kept_within_bounds() -> None:
    found = sessions(clicks({"a": "xxyxx", "b": "zzz", "c": "pqrst", "d": "x"}), longest=4)
    assert items_of(found) == {"a": "xyx", "c": "qrst"}
    assert found.unit == "session"
    assert set(found.items["item"]) == set("xyqrst")
    notes = " ".join(found.notes)
    for said in (
        "2 sessions are kept",
        "4 interactions with the same item",
        "2 sessions of fewer than 2",
        "1 sessions are longer",
    ):
        assert said in notes


def test_people_stay_people_unless_their_ids_or_gaps_are_said_to_be_sessions() -> None:
    people = clicks({"a": "xyz", "b": "xy"}, unit="user")
    assert sessions(people) is people
    assert sessions(people, by="none") is people
    found = sessions(people, by="id")
    assert (found.unit, items_of(found)) == ("session", {"a": "xyz", "b": "xy"})
    assert found.key != people.key


def test_sessions_that_are_sessions_already_stay_as_they_are() -> None:
    once = sessions(clicks({"a": "xxyxx", "b": "xyzxyz"}), longest=3)
    assert sessions(once, longest=3) is once


def test_a_session_ends_after_a_pause_longer_than_the_gap_and_is_counted_from_the_earliest() -> None:
    found = sessions(
        visits({"42": [("a", 0), ("b", 30), ("c", 61), ("a", 100), ("b", 101)], "7": [("a", 0), ("b", 5)]}), by="gap"
    )
    # The click at minute 61 is a session of its own, too short to be kept, but counted.
    assert items_of(found) == {"42/1": "ab", "42/3": "ab", "7/1": "ab"}
    assert any("more than 30 minutes lie between two interactions of a person" in note for note in found.notes)


def test_the_order_of_the_file_does_not_matter_where_times_are_known() -> None:
    times = {"1": [("a", 0), ("b", 1), ("a", 50), ("c", 51)], "2": [("c", 0), ("d", 9)]}
    backwards = {user: items[::-1] for user, items in reversed(times.items())}
    assert sessions(visits(times), by="gap").key == sessions(visits(backwards), by="gap").key


def test_gaps_need_times_and_something_must_be_left() -> None:
    with pytest.raises(DataError, match="needs the time of every interaction"):
        sessions(clicks({"a": "xy"}), by="gap")
    with pytest.raises(DataError, match="no session has 2 different items"):
        sessions(clicks({"a": "xx", "b": "y"}))
    with pytest.raises(ConfigError, match="by is 'day'"):
        sessions(clicks({"a": "xy"}), by="day")


HISTORIES = st.dictionaries(
    st.sampled_from(["1", "2", "10"]),
    st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 60)), min_size=1, max_size=15),
    min_size=1,
)


@settings(max_examples=150, deadline=None)
@given(times=HISTORIES, gap=st.integers(1, 20), shortest=st.integers(2, 3), more=st.integers(0, 3))
def test_sessions_by_walking_through_every_history(
    times: dict[str, list[tuple[str, int]]], gap: int, shortest: int, more: int
) -> None:
    wanted: dict[str, str] = {}
    for user, events in times.items():
        walked: list[list[str]] = []
        last = None
        for item, minute in sorted(set(events), key=lambda event: (event[1], event[0])):
            if last is None or minute - last > gap:
                walked.append([])
            walked[-1].append(item)
            last = minute
        for number, visit in enumerate(walked, start=1):
            plain = [item for item, _ in groupby(visit)]
            if len(plain) >= shortest:
                wanted[f"{user}/{number}"] = "".join(plain[-(shortest + more) :])
    whole = visits({user: list(set(events)) for user, events in times.items()})
    if not wanted:
        with pytest.raises(DataError):
            sessions(whole, "gap", gap, shortest, shortest + more)
    else:
        assert items_of(sessions(whole, "gap", gap, shortest, shortest + more)) == wanted


@pytest.mark.real_data
@pytest.mark.skipif(not REAL, reason="MIA_REAL_DATA names no folder with real data")
def test_published_sessions_and_visits_cut_from_ratings() -> None:
    published = load(Path(REAL) / "yoochoose-1-64")
    assert (published.summary()["users"], published.summary()["unit"]) == (15_324, "session")
    summary = sessions(published).summary()
    assert summary["longest"] == 20
    assert 13_000 < summary["users"] < 15_324
    found = sessions(load(Path(REAL) / "ml-latest-small"), by="gap")
    assert found.frame["user"].str.contains(r"^\d+/\d+$").all()
    lengths = found.frame.group_by("user").len()["len"].to_numpy()
    assert lengths.min() == 2
    assert lengths.max() == 20
