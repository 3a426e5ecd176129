from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mia_core.errors import NotFound
from mia_core.report import people
from mia_core.report.people import PAGE, Search
from mia_core.report.results import AuditResult, read_table
from mia_core.storage.store import Store
from mia_core.types import Role


def rows(users_table: pl.DataFrame, attack: str = "distillation") -> pl.DataFrame:
    """The table as a search reads it, with what the tiny audit lacks."""
    names = people.columns_of(attack, users_table.columns)
    named = pl.int_range(pl.len()) % 3 == 0
    return users_table.select(*names).rename(names).with_columns(named=named, stratum=pl.col("history_length") % 2)


SEARCHES = [
    Search(),
    Search(role=("known_member", "audited_member"), by="user", up=True),
    Search(has="m 1", by="history_length"),
    Search(named=True, p=0.2, by="p", up=True),
    Search(from_length=25, to_length=30, stratum=1, by="mean_popularity", page=2),
]


@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_survives_its_address(search: Search) -> None:
    address = search.address()
    roles = address.pop("role", [])
    assert Search.read(address, list(roles)) == search


def test_what_an_address_says_wrongly_is_left_out() -> None:
    said = {"p": "small", "page": "-3", "by": "password", "stratum": "x", "has": "a", "user": "other"}
    assert Search.read(said, ["nobody", "judged"]) == Search(role=("judged",), has="a")


@pytest.mark.parametrize("search", SEARCHES)
def test_those_found_are_those_who_fit_in_order(search: Search, users_table: pl.DataFrame) -> None:
    table = rows(users_table)
    roles = search.role or ("audited_member", "audited_held_out", "judged")

    def fits(row: dict[str, Any]) -> bool:
        return (
            row["role"] in roles
            and search.has in row["user"]
            and (not search.named or row["named"])
            and (search.p is None or (row["p"] is not None and row["p"] <= search.p))
            and (search.from_length is None or row["history_length"] >= search.from_length)
            and (search.to_length is None or row["history_length"] <= search.to_length)
            and (search.stratum is None or row["stratum"] == search.stratum)
        )

    found = people.find_users(table, search)
    assert set(found["user"]) == {row["user"] for row in table.iter_rows(named=True) if fits(row)}
    values = found[search.by].drop_nulls().to_list()
    assert values == sorted(values, reverse=not search.up)
    # Nobody without a value stands before somebody with one.
    assert found[search.by].to_list()[: len(values)] == values


def test_pages_hold_everybody_once(users_table: pl.DataFrame) -> None:
    found = people.find_users(rows(users_table), Search())
    pages = [people.page_of(found, number) for number in range(1, 4)]
    assert [page.height for page, _, _ in pages] == [PAGE, PAGE, found.height - 2 * PAGE]
    assert {count for _, _, count in pages} == {3}
    assert pl.concat(page for page, _, _ in pages).equals(found)
    assert people.page_of(found, 99)[1] == 3


def test_the_users_beside_one_are_those_of_the_table(users_table: pl.DataFrame) -> None:
    found = people.find_users(rows(users_table), Search())
    ids = found["user"].to_list()
    assert people.beside(found, ids[0]) == (1, None, ids[1])
    assert people.beside(found, ids[7]) == (8, ids[6], ids[8])
    assert people.beside(found, ids[-1]) == (len(ids), ids[-2], None)
    assert people.beside(found, "nobody") == (None, None, None)


def test_what_each_attack_says_is_what_the_table_says(saved: AuditResult, store: Store) -> None:
    folder = store.find(saved.key)
    assert folder is not None
    users = read_table(folder, "users")
    row = people.one_user(folder, "[red]Ana")
    said = people.said_by_attacks(folder, saved, row)
    assert said["attack"].to_list() == ["distillation", "loss"]
    for one in said.iter_rows(named=True):
        held_out = users.filter(pl.col("role") == Role.AUDITED_HELD_OUT)[f"score.{one['attack']}"]
        assert one["above"] == pytest.approx(sum(other < one["score"] for other in held_out) / len(held_out))
        assert one["p"] == row[f"p.{one['attack']}"]


def test_a_held_out_user_is_not_compared_with_themselves(saved: AuditResult, store: Store) -> None:
    folder = store.find(saved.key)
    assert folder is not None
    held_out = read_table(folder, "users").filter(pl.col("role") == Role.AUDITED_HELD_OUT)
    top = held_out.sort("score.loss", descending=True)["user"][0]
    said = people.said_by_attacks(folder, saved, people.one_user(folder, top))
    assert said.filter(pl.col("attack") == "loss")["above"].item() == 1.0
    _, others = people.scores_beside(folder, "loss", top, Role.AUDITED_MEMBER)
    assert len(others) == held_out["score.loss"].count() - 1


def test_an_unknown_user_is_explained(saved: AuditResult, store: Store) -> None:
    folder = store.find(saved.key)
    assert folder is not None
    with pytest.raises(NotFound, match="not part of this audit"):
        people.one_user(folder, "123")


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Tokens of two users, their history, and a very long title."""
    tokens = pl.DataFrame(
        {
            "user": ["a"] * 5 + ["b"],
            "window": [0, 0, 0, 1, 1, 0],
            "place": [0, 1, 2, 0, 1, 0],
            "text": ["The", " Matrix", ",", "Heat", " 2", "Up"],
            "item": ["i1", "i1", None, "i2", "i2", "i3"],
            "target": [-1.0, -2.0, -0.5, -3.0, -1.0, -1.0],
            "base": [-2.0, -2.5, -0.5, -2.0, -1.5, -1.0],
            "reference": [-1.0, -1.0, -1.0, -1.0, -1.0, -2.0],
        }
    )
    tokens.sample(6, shuffle=True, seed=0).write_parquet(tmp_path / "tokens.parquet")
    history = {"user": ["a", "a", "b"], "item": ["i1", "i2", "i3"], "rating": [None] * 3, "timestamp": [5, 9, 7]}
    pl.DataFrame(
        history, {"user": pl.String, "item": pl.String, "rating": pl.Float64, "timestamp": pl.Int64}
    ).write_parquet(tmp_path / "interactions.parquet")
    items = {"item": ["i1", "i2", "i3"], "title": ["The Matrix", "x" * 10_000, "Up"]}
    pl.DataFrame(items).write_parquet(tmp_path / "items.parquet")
    return tmp_path


def test_tokens_are_the_users_own_in_order_and_raised_over_the_base(kept: Path) -> None:
    tokens = people.tokens_of(kept, "a")
    assert tokens["text"].to_list() == ["The", " Matrix", ",", "Heat", " 2"]
    assert tokens["raised"].to_list() == [1.0, 0.5, 0.0, -1.0, 0.5]
    assert set(tokens["before"]) == {"base"}


def test_without_a_base_the_references_are_compared_with(kept: Path) -> None:
    rows_ = pl.read_parquet(kept / "tokens.parquet").with_columns(base=pl.lit(None, pl.Float64))
    rows_.write_parquet(kept / "tokens.parquet")
    tokens = people.tokens_of(kept, "a")
    assert tokens["raised"].to_list() == [0.0, -1.0, 0.5, -2.0, 0.0]
    assert set(tokens["before"]) == {"reference"}


def test_titles_that_were_raised_most_come_first(kept: Path) -> None:
    titles = people.telling_titles(people.tokens_of(kept, "a"), kept)
    assert titles["title"][0] == "The Matrix"
    assert titles["raised"].to_list() == [1.5, -0.5]
    # A title of 10,000 characters is not sent whole.
    assert len(titles["title"][1]) <= people.LONGEST_TEXT + 1


def test_audits_without_tokens_have_none(tmp_path: Path) -> None:
    tokens = people.tokens_of(tmp_path, "a")
    assert tokens.is_empty()
    assert people.telling_titles(tokens, None).is_empty()


def test_a_history_is_the_users_own_the_latest_first(kept: Path) -> None:
    history = people.history_of(kept, "a")
    assert history.columns == ["title", "timestamp"]
    assert history["timestamp"].to_list() == [9, 5]
    assert history["title"][1] == "The Matrix"
