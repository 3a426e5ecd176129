"""What counts as the same audit under another seed, and what is said of how far chance moves its figures."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from mia_core.report.repeats import find_repeats
from mia_core.report.results import AuditResult
from mia_core.report.wording import explain_repeats, no_repeats, spread_in_short
from mia_core.storage.store import Store
from mia_core.types import Gate, Metric

FAILED = [Gate("null", False, 0.9, 0.001, 140, "It failed.", "Look at the split.")]
FILE = {"source": "file", "path": "/films.csv"}
Save = Callable[..., AuditResult]


@pytest.fixture
def save(make_result: Callable[..., AuditResult], save_audit: Save) -> Save:
    """Saves an audit with a seed, an AUC and other settings, given by their paths."""
    keys = iter(range(1, 100))

    def save_one(seed: int, auc: float, kind: str = "audit", data_key: str = "d", **settings: Any) -> AuditResult:
        config = copy.deepcopy(make_result().config) | {"seed": seed, "name": f"Seed {seed}"}
        for path, value in settings.items():
            *parents, name = path.split("__")
            section = config
            for parent in parents:
                section = section[parent]
            section[name] = section[name] | value if isinstance(value, dict) else value
        metrics = [
            Metric("distillation", "auc", auc, auc - 0.02, auc + 0.01, 140),
            Metric("distillation", "tpr_at_fpr_0.05", auc - 0.2, 0.1, 0.99, 140),
            Metric("loss", "auc", 0.5, 0.4, 0.6, 140),
        ]
        key = f"{next(keys):064x}"
        data = {**make_result().data, "key": data_key * 64}
        return save_audit(make_result(key=key, config=config, metrics=metrics, data=data), kind)

    return save_one


def test_the_spread_is_that_of_the_leads_figures_over_all_seeds(store: Store, save: Save) -> None:
    mine = save(3, 0.90)
    save(0, 0.94)
    save(1, 0.92, kind="point")
    found = find_repeats(store, mine)
    assert found.seeds == (3, 0, 1)
    auc = found.spread["auc"]
    assert (auc.lowest, auc.highest, auc.seeds) == (0.90, 0.94, 3)
    assert auc.standard_deviation == pytest.approx(0.02)
    told = explain_repeats(found, mine)
    assert "Run with 3 seeds, this one included" in told
    assert "AUC of 0.900 to 0.940 (standard deviation 0.020)" in told
    assert "found 70% to 74% of the members at 5% false alarms (standard deviation 2.0 percentage points)" in told
    assert no_repeats(found, mine) == ""
    assert spread_in_short("auc", auc) == "3 seeds 0.900–0.940, standard deviation 0.020"


@pytest.mark.parametrize(
    "changes",
    [
        {"target__training": {"epochs": 99}},
        {"split__public_share": 0.3},
        {"evaluation__resamples": 123},
        {"data__synthetic": {"users": 999}},
        {"attacks__names": ["loss", "distillation"]},
    ],
)
def test_an_audit_that_differs_in_anything_else_is_no_repetition(
    store: Store, save: Save, changes: dict[str, Any]
) -> None:
    mine = save(0, 0.90)
    save(1, 0.99, **changes)
    found = find_repeats(store, mine)
    assert found.seeds == (0,)
    assert found.spread == {}
    assert explain_repeats(found, mine) == ""
    assert "splitting and training" in no_repeats(found, mine)


def test_data_that_the_seed_invents_are_the_same_by_their_recipe_and_the_words_say_so(store: Store, save: Save) -> None:
    mine = save(0, 0.90, data_key="a")
    save(1, 0.92, data_key="b")
    found = find_repeats(store, mine)
    assert found.seeds == (0, 1)
    assert "chance in drawing users, splitting and training" in explain_repeats(found, mine)


def test_a_users_data_are_the_same_by_their_content_wherever_they_were_read_from(store: Store, save: Save) -> None:
    mine = save(0, 0.90, data_key="a", data=FILE)
    save(1, 0.92, data_key="a", data={"source": "kept", "key": "a" * 64})
    save(2, 0.10, data_key="b", data=FILE)
    found = find_repeats(store, mine)
    assert found.seeds == (0, 1)
    assert "chance in splitting and training moves" in explain_repeats(found, mine)


def test_a_random_share_of_a_file_is_drawn_anew_with_the_seed(store: Store, save: Save) -> None:
    thin = {"data": FILE, "data__thin": {"keep_users": 0.5}}
    mine = save(0, 0.90, data_key="a", **thin)
    save(1, 0.92, data_key="b", **thin)
    save(2, 0.10, data_key="a", data=FILE)
    assert find_repeats(store, mine).seeds == (0, 1)


def test_the_same_seed_twice_counts_once_and_the_audit_itself_is_never_replaced(store: Store, save: Save) -> None:
    mine = save(0, 0.90)
    save(1, 0.70)
    save(1, 0.80)
    save(0, 0.10)
    auc = find_repeats(store, mine).spread["auc"]
    assert (auc.lowest, auc.highest, auc.seeds) == (0.80, 0.90, 2)


def test_runs_that_failed_their_gates_are_left_out_and_counted(
    store: Store, save: Save, make_result: Callable[..., AuditResult], save_audit: Save
) -> None:
    mine = save(0, 0.90)
    broken = dataclasses.replace(save(7, 0.10), key="e" * 64, gates=FAILED, config={**mine.config, "seed": 1})
    save_audit(broken)
    store.remove(next(entry.key for entry in store.entries("audit") if entry.key not in (mine.key, broken.key)))
    found = find_repeats(store, mine)
    assert (found.seeds, found.refused) == ((0,), (1,))
    assert "none passed the gates" in no_repeats(found, mine)
    save(2, 0.92)
    found = find_repeats(store, mine)
    assert found.seeds == (0, 2)
    assert found.spread["auc"].lowest == 0.90
    assert "1 more run failed its gates and is left out" in explain_repeats(found, mine)
    assert explain_repeats(find_repeats(store, broken), broken) == no_repeats(found, broken) == ""


def test_a_rate_that_not_every_seed_resolves_says_how_many_do(store: Store, save: Save, save_audit: Save) -> None:
    mine = save(0, 0.90)
    save(1, 0.92)
    third = save(2, 0.91)
    unresolved = [
        dataclasses.replace(metric, value=None, low=None, high=None) if metric.metric != "auc" else metric
        for metric in third.metrics
    ]
    store.remove(third.key)
    save_audit(dataclasses.replace(third, metrics=unresolved))
    told = explain_repeats(find_repeats(store, mine), mine)
    assert "at 5% false alarms, where 2 of them resolve it (standard" in told


def test_without_a_figure_there_is_nothing_to_repeat(store: Store, save: Save) -> None:
    mine = dataclasses.replace(save(0, 0.90), metrics=[Metric("distillation", "auc", None, None, None, 0, "nobody")])
    found = find_repeats(store, mine)
    assert explain_repeats(found, mine) == no_repeats(found, mine) == ""
