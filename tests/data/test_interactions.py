from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mia_core.data.interactions import Interactions, validate

ROWS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b ", "10", "9", "", None]),
        st.sampled_from(["x", " y", "z", ""]),
        st.sampled_from([1.0, 2.0, None]),
        st.sampled_from([1, 2, 3]),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(rows=ROWS)
def test_the_first_interaction_of_a_user_with_an_item_counts_by_looking_at_every_row(
    rows: list[tuple[str | None, str, float | None, int]],
) -> None:
    first: dict[tuple[str, str], tuple[int, int, float | None]] = {}
    for line, (user, item, rating, time) in enumerate(rows):
        key = ((user or "").strip(), item.strip())
        if all(key) and (key not in first or time < first[key][0]):
            first[key] = (time, line, rating)
    wanted = sorted((user, time, item, rating) for (user, item), (time, _, rating) in first.items())
    frame = pl.DataFrame(
        rows, schema={"user": pl.String, "item": pl.String, "rating": pl.Float64, "timestamp": pl.Int64}, orient="row"
    )
    if not wanted:
        with pytest.raises(Exception, match="no interactions"):
            validate(frame)
        return
    found = validate(frame)
    assert found.frame.rows() == [(user, item, rating, time) for user, time, item, rating in wanted]
    assert found.items["item"].to_list() == sorted({item for _, _, item, _ in wanted})


def table(unit: str = "user") -> Interactions:
    frame = pl.DataFrame({"user": ["a", "a", "b"], "item": ["x", "y", "x"], "rating": [1.0, None, 2.5]})
    return validate(frame, pl.DataFrame({"item": ["x"], "title": ["Rain"]}), unit=unit)


def test_a_key_outlives_the_versions_and_sessions_have_another() -> None:
    assert table().key == "954f6c03f8a7e3d8be2ebe8c9af70e42c57356c6d50460173bca4246133d9fb0"
    assert table("session").key != table().key


def test_the_unit_is_kept_with_the_data_and_older_data_are_about_users(tmp_path: Path) -> None:
    sessions = table("session")
    sessions.write(tmp_path)
    found = Interactions.read(tmp_path)
    assert (found.unit, found.key) == ("session", sessions.key)
    (tmp_path / "unit.txt").unlink()
    old = Interactions.read(tmp_path)
    assert (old.unit, old.key) == ("user", table().key)


def test_the_profile_says_what_the_units_are_how_long_and_how_skewed() -> None:
    rows = [("a", "x"), ("a", "y"), ("a", "z"), ("b", "x"), ("c", "x"), ("c", "y"), ("d", "x")]
    summary = validate(pl.DataFrame(rows, schema=["user", "item"], orient="row"), unit="session").summary()
    assert (summary["unit"], summary["users"], summary["median_length"], summary["longest"]) == ("session", 4, 1.5, 3)


def test_skew_of_popularity_on_known_data() -> None:
    def spread(counts: list[int]) -> Interactions:
        rows = [(f"u{k}", f"i{i}") for i, count in enumerate(counts) for k in range(count)]
        return validate(pl.DataFrame(rows, schema=["user", "item"], orient="row"))

    assert spread([3, 3, 3]).popularity_gini == pytest.approx(0.0)
    # Half of the mean absolute difference over the mean: (0+2+2+0)/4 / (2 * 2).
    assert spread([1, 3]).popularity_gini == pytest.approx(0.25)
