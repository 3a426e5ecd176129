from __future__ import annotations

import polars as pl
import pytest

from mia_core.data.interactions import Interactions
from mia_core.data.opening import open_interactions
from mia_core.data.synthetic import generate
from mia_core.data.thinning import thin
from mia_core.errors import DataError
from mia_core.experiment import Data, Synthetic
from mia_core.storage.store import Store


@pytest.fixture(scope="module")
def whole() -> Interactions:
    return generate(Synthetic(users=80, items=50, mean_history=20), 0)


def users(interactions: Interactions) -> set[str]:
    return set(interactions.frame["user"])


def test_nothing_asked_for_is_nothing_changed(whole: Interactions) -> None:
    assert thin(whole, 0) is whole
    everything = thin(whole, 0, keep_users=1.0, keep_items=1.0, shortest_history=1, longest_history=10_000)
    assert everything.frame.equals(whole.frame)
    assert everything.key == whole.key


def test_a_share_of_users_is_drawn_once_per_seed_and_smaller_shares_lie_in_larger_ones(whole: Interactions) -> None:
    half, quarter = thin(whole, 3, keep_users=0.5), thin(whole, 3, keep_users=0.25)
    assert (len(users(half)), len(users(quarter))) == (40, 20)
    assert users(quarter) < users(half)
    assert users(thin(whole, 4, keep_users=0.5)) != users(half)
    kept = whole.frame.filter(pl.col("user").is_in(users(half)))
    assert half.frame.equals(kept)
    assert "40 users" in half.notes[-1]


def test_the_most_popular_items_stay_and_the_rest_is_gone(whole: Interactions) -> None:
    part = thin(whole, 0, keep_items=0.2)
    counts = dict(whole.frame.group_by("item").len().iter_rows())
    kept = set(part.frame["item"])
    assert len(kept) == 10
    assert min(counts[item] for item in kept) >= max(counts[item] for item in set(counts) - kept)
    assert set(part.items["item"]) == kept
    assert part.popularity_gini < whole.popularity_gini


def test_histories_keep_their_latest_items_and_short_ones_are_left_out(whole: Interactions) -> None:
    part = thin(whole, 0, shortest_history=19, longest_history=5)
    before = {str(user): frame["item"].to_list() for (user,), frame in whole.frame.group_by("user")}
    after = {str(user): frame["item"].to_list() for (user,), frame in part.frame.group_by("user")}
    assert after == {user: items[-5:] for user, items in before.items() if len(items) >= 19}
    with pytest.raises(DataError, match="leaves no interaction"):
        thin(whole, 0, shortest_history=10_000)


def test_a_config_names_the_part_and_other_data_have_another_key(store: Store) -> None:
    data = {"synthetic": {"users": 60, "items": 30}}
    whole = open_interactions(Data.model_validate(data), 0, store)
    part = open_interactions(Data.model_validate({**data, "thin": {"keep_users": 0.5}}), 0, store)
    assert len(users(part)) == 30
    assert part.key != whole.key
