from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from mia_core.types import SESSION, Role
from mia_core.ui import charts


def people(n: int) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    roles = [Role.AUDITED_MEMBER, Role.AUDITED_HELD_OUT, Role.KNOWN_MEMBER, Role.KNOWN_HELD_OUT, Role.PUBLIC]
    return pl.DataFrame({"role": [str(roles[i % 5]) for i in range(n)], "value": rng.normal(size=n)})


def rows_of(chart: Any) -> list[list[dict[str, Any]]]:
    return list(chart.to_dict()["datasets"].values())


def text(chart: Any) -> str:
    return str(chart.to_dict())


def test_a_million_users_cost_a_few_marks() -> None:
    chart = charts.densities(people(1_000_000), "Loss")
    assert sum(len(rows) for rows in rows_of(chart)) <= 2_000


def test_each_groups_shares_add_up_to_one_and_nobody_else_counts() -> None:
    values = people(1_000)
    binned = charts.binned(values)
    assert set(binned["group"]) == {"Members", "Held-out users"}
    for share in binned.group_by("group").agg(pl.col("share").sum())["share"]:
        assert share == pytest.approx(1.0)


def test_members_are_blue_and_solid_and_held_out_users_vermillion_and_dashed() -> None:
    shown = text(charts.densities(people(100), "Loss"))
    assert "'domain': ['Members', 'Held-out users'], 'range': ['#0072B2', '#D55E00']" in shown
    assert "[6, 4]" in shown


@pytest.mark.parametrize("logarithmic", [True, False])
def test_points_on_few_false_positives_are_marked(logarithmic: bool) -> None:
    counts = np.arange(0, 300, 3)
    points = pl.DataFrame(
        {
            "fpr": counts / 297,
            "tpr": np.sqrt(counts / 297),
            "low": counts / 300,
            "high": np.ones(100),
            "false_positives": counts,
        }
    )
    chart = charts.roc(points, logarithmic=logarithmic)
    marked = [row for rows in rows_of(chart) for row in rows if row.get("few")]
    assert {row["false_positives"] for row in marked} == {0, 3, 6, 9}
    if logarithmic:
        assert min(row["fpr"] for rows in rows_of(chart) for row in rows if "fpr" in row) > 0


def test_the_person_stands_among_both_distributions() -> None:
    chart = charts.place([1.0, 2.0, 3.0], [0.0, 0.5, float("nan")], 2.5)
    data = rows_of(chart)
    assert any(row.get("label") == "this person" and row["value"] == 2.5 for rows in data for row in rows)
    assert {row["group"] for rows in data for row in rows if "group" in row} == {"Members", "Held-out users"}


def test_a_map_shows_at_most_two_thousand_members_and_held_out_users() -> None:
    many = people(6_000)
    places = many.select("role", user=pl.int_range(pl.len()).cast(pl.String), x=pl.col("value"), y=-pl.col("value"))
    places = places.with_columns(x=pl.when(pl.col("user") == "0").then(float("nan")).otherwise("x"))
    chart = charts.people_map(places)
    (shown,) = rows_of(chart)
    assert len(shown) == 2_000
    assert {(row["group"], row["role"].split()[-1]) for row in shown} == {
        ("Members", "member"),
        ("Held-out users", "held-out"),
    }
    assert not any(row["user"] == "0" for row in rows_of(charts.people_map(places.head(5)))[0])
    assert "'range': ['#0072B2', '#D55E00']" in text(chart)
    assert "'range': ['circle', 'triangle-up']" in text(chart)


def test_a_map_of_sessions_calls_them_so() -> None:
    places = pl.DataFrame({"user": ["s1"], "role": [str(Role.AUDITED_HELD_OUT)], "x": [0.0], "y": [1.0]})
    chart = charts.people_map(places, SESSION)
    assert rows_of(chart) == [
        [{"user": "s1", "role": "audited held-out", "x": 0.0, "y": 1.0, "group": "Held-out sessions"}]
    ]
    assert "'title': 'session'" in text(chart)


def test_nobody_makes_an_empty_chart_not_a_fault() -> None:
    assert charts.binned(people(0)).is_empty()
