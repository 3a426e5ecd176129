"""What every defence must keep. A new defence is tested here by its line in `DEFENSES`, with nothing else done."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from mia_core.data.prompts import Event, Samples
from mia_core.defenses.catalogue import DEFENSES, combination_refusal, configured
from mia_core.defenses.contract import KINDS
from mia_core.errors import ConfigError
from mia_core.experiment import Experiment, Recommender, Target, parse_experiment

LORA = {"target": {"tuning": "lora"}}
CLASSIC = {"target": {"source": "recommender"}}
SEQUENCE = {"base": {"family": "sasrec"}}
OWN = {"target": {"source": "own", "path": "p", "members": "m", "held_out": "h"}}
LISTS = {"target": {"source": "lists", "lists": "l", "members": "m", "held_out": "h"}}
PROMPTED = {"target": {"serving": "prompt"}}
PRIVATE = ["dp_sgd_user", "dp_sgd_record", "clip_only", "noise_only"]
IN_TRAINING = [name for name, defense in DEFENSES.items() if defense.where == "training"]
IN_SERVING = [name for name, defense in DEFENSES.items() if defense.where == "serving"]


@pytest.fixture(params=DEFENSES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def suited(name: str) -> Experiment:
    """An audit that the defence is for."""
    if DEFENSES[name].kinds == ("recommender",):
        return parse_experiment(CLASSIC)
    return parse_experiment(LORA if name.startswith("lora") else {})


def refusal(experiment: dict[str, Any], *names: str, **settings: Any) -> str:
    chosen = [configured(name, settings if i == 0 else {}) for i, name in enumerate(names)]
    return combination_refusal(chosen, parse_experiment(experiment))


def samples() -> Samples:
    window = (Event("a", "A", None), Event("b", "B", None))
    return Samples(("u",), np.zeros(2, np.int64), ("p", "q"), ("r", "s"), (window, window))


def test_it_is_frozen_and_says_what_it_is(name: str) -> None:
    defense = DEFENSES[name]()
    with pytest.raises(dataclasses.FrozenInstanceError):
        defense.title = "x"  # type: ignore[misc]
    assert defense.name == name
    for text in (defense.title, defense.summary, defense.expected, defense.source):
        assert text.strip()
    assert "Source:" in str(defense.__doc__)
    assert any(mark in defense.expected for mark in ("measured in the literature", "reported", "our expectation"))
    assert set(defense.kinds) <= set(KINDS)
    assert defense.where in ("training", "serving")


def test_it_works_out_of_the_box_and_only_where_it_acts(name: str) -> None:
    defense, experiment = configured(name, {}), suited(name)
    assert combination_refusal([defense], experiment) == ""
    target = defense.settings(experiment.target)
    recommender = defense.lists(experiment.recommender)
    left = defense.windows(samples(), 0)
    # What it changes is still a config that may be asked for.
    assert Target.model_validate(target.model_dump()) == target
    assert Recommender.model_validate(recommender.model_dump()) == recommender
    assert set(left.prompts) <= {"p", "q"}
    assert left.users == ("u",)
    model = object()
    if defense.where == "training":
        assert recommender == experiment.recommender
        assert defense.served(model, 0) is model
    else:
        assert target == experiment.target
        assert len(left) == 2
        assert defense.prepared(model) is model
        assert defense.privacy is None


def test_it_does_something(name: str) -> None:
    defense, experiment = configured(name, {}), suited(name)
    acts = {
        "settings": defense.settings(experiment.target) != experiment.target,
        "lists": defense.lists(experiment.recommender) != experiment.recommender,
        "windows": len(defense.windows(samples(), 0)) < 2,
        "users": defense.spared_share > 0,
        "elsewhere": any(
            hook in vars(part) for part in type(defense).__mro__[:-2] for hook in ("prepared", "privacy", "served")
        ),
    }
    assert sum(acts.values()) == 1


def test_an_unknown_setting_is_refused_with_the_nearest_one(name: str) -> None:
    fields = [field.name for field in dataclasses.fields(DEFENSES[name])]
    if not fields:
        with pytest.raises(ValueError, match="it has none"):
            configured(name, {"strength": 1})
        return
    with pytest.raises(ValueError, match=f"did you mean '{fields[0]}'"):
        configured(name, {fields[0] + "x": 1})
    with pytest.raises(ValueError, match=f"{name}.{fields[0]} is 'much'"):
        configured(name, {fields[0]: "much"})


def test_an_unknown_defence_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ValueError, match="'dp_sgd' is no defence; did you mean 'dp_sgd_"):
        configured("dp_sgd", {})


@pytest.mark.parametrize(
    ("name", "field", "values", "allowed"),
    [
        *[(dp, "epsilon", (0, -1, float("inf"), float("nan")), "above 0") for dp in PRIVATE[:2]],
        *[(dp, "delta", (0, 1, -0.1), "between 0 and 1") for dp in PRIVATE[:2]],
        *[(dp, "clip", (0, -1, float("inf")), "above 0") for dp in PRIVATE[:3]],
        ("dp_sgd_user", "units_at_once", (0,), "at least 1"),
        ("noise_only", "noise_multiplier", (0, -1), "above 0"),
        ("cap_records", "records", (0, -1), "at least 1"),
        ("deduplicate", "similarity", (0, 1.1), "above 0 and at most 1"),
        ("early_stopping", "patience", (0,), "at least 1"),
        ("fewer_epochs", "share", (0, 1), "between 0 and 1"),
        ("lora_rank", "rank", (0,), "at least 1"),
        ("lora_dropout", "dropout", (0, 1), "between 0 and 1"),
        ("skip_layers", "layers", (0,), "at least 1"),
        ("weight_decay", "weight_decay", (0, float("nan")), "above 0"),
        ("label_smoothing", "smoothing", (0, 1), "between 0 and 1"),
        ("temperature", "temperature", (0, 1, 1000), "between 0.01 and 100 and not be 1"),
        ("rounding", "digits", (0, 7), "between 1 and 6"),
        ("top_k", "k", (0,), "at least 1"),
        ("output_noise", "beta", (0, 1.5), "above 0 and at most 1"),
        ("output_noise", "gamma", (0, 1), "between 0 and 1"),
        ("popularity_randomisation", "candidates", (1, 2_000_000), "between 2 and 1,000,000"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range(
    name: str, field: str, values: tuple[float, ...], allowed: str
) -> None:
    for value in values:
        with pytest.raises(ConfigError) as refused:
            configured(name, {field: value})
        assert str(refused.value).startswith(f"{name}.{field} is {value}")
        assert allowed in str(refused.value)


def test_comparing_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"deduplicate\.across is False; and within, too"):
        configured("deduplicate", {"within": False, "across": False})


def test_a_defence_is_refused_for_another_kind_of_target(name: str) -> None:
    for kind, document in (("language", LORA), ("sequence", SEQUENCE), ("recommender", CLASSIC)):
        if kind not in DEFENSES[name].kinds:
            assert refusal(document, name).startswith(f"{name}: the target is a {KINDS[kind]}, and it is for a ")


@pytest.mark.parametrize("name", [name for name in DEFENSES if "recommender" not in DEFENSES[name].kinds])
def test_nothing_is_changed_where_nothing_is_made_here(name: str) -> None:
    assert "nothing can be changed" in refusal(LISTS, name)
    if name in IN_TRAINING:
        assert "nothing is trained here" in refusal(OWN, name)
        assert "nothing is trained on the members" in refusal(PROMPTED, name)
    else:
        assert refusal(OWN, name) == refusal(PROMPTED, name) == ""


@pytest.mark.parametrize(
    ("document", "name", "settings", "said"),
    [
        *[({"target": {"training": {"accumulation": 2}}}, one, {}, "accumulation is 2") for one in PRIVATE],
        *[({"target": {"training": {"early_stop": True}}}, one, {}, "set it to false") for one in PRIVATE],
        ({"prompt": {"windows": 2}}, "cap_records", {"records": 2}, "nothing would be left out"),
        (SEQUENCE, "cap_records", {}, "one window; lower prompt.history"),
        (SEQUENCE, "deduplicate", {"across": False}, "there is nothing to compare"),
        ({"prompt": {"windows": 1}}, "deduplicate", {"across": False}, "there is nothing to compare"),
        ({"target": {"training": {"early_stop": True}}}, "early_stopping", {}, "early_stop is true already"),
        ({"target": {"training": {"epochs": 3}}}, "early_stopping", {"patience": 2}, "too few to stop early"),
        ({"target": {"training": {"epochs": 1}}}, "fewer_epochs", {}, "give a smaller share, or more epochs"),
        ({}, "lora_dropout", {}, 'target.tuning is "full"'),
        (LORA, "lora_rank", {"rank": 16}, "target.lora.rank 16 already; give a lower rank"),
        ({"target": {"tuning": "lora", "lora": {"dropout": 0.4}}}, "lora_dropout", {}, "give a higher dropout"),
        ({"base": {"layers": 4}}, "skip_layers", {"layers": 2}, "a stack of this t5 has 2"),
        ({"base": {"family": "gpt2", "layers": 4}}, "skip_layers", {"layers": 4}, "a stack of this gpt2 has 4"),
        ({"target": {"start": "scratch"}}, "skip_layers", {}, "no layer was trained before"),
        ({"target": {"training": {"weight_decay": 0.2}}}, "weight_decay", {}, "give a higher weight_decay"),
        ({"target": {"training": {"label_smoothing": 0.2}}}, "label_smoothing", {}, "give a higher smoothing"),
        (CLASSIC, "popularity_randomisation", {"candidates": 50}, "recommender.length 100; give more"),
        ({**CLASSIC, "recommender": {"candidates": 200}}, "popularity_randomisation", {}, "200 already"),
        ({**CLASSIC, "recommender": {"shuffled": True}}, "list_shuffle", {}, "true already"),
    ],
)
def test_what_does_not_fit_an_audit_is_refused_with_the_way_out(
    document: dict[str, Any], name: str, settings: dict[str, Any], said: str
) -> None:
    refused = refusal(document, name, **settings)
    assert refused.startswith(f"{name}: ")
    assert said in refused


def test_what_fits_alone_may_not_fit_together() -> None:
    assert "choose one of them" in refusal({}, "dp_sgd_user", "clip_only")
    assert "take fewer_epochs instead" in refusal({}, "early_stopping", "noise_only")
    assert "named 2 times" in refusal({}, "rounding", "rounding")
    assert refusal({}, "dp_sgd_user", "cap_records", "fewer_epochs", "rounding", "temperature") == ""
    assert refusal(CLASSIC, "popularity_randomisation", "list_shuffle") == ""
    assert combination_refusal([], parse_experiment({})) == ""


def test_choosing_defences_loads_no_torch() -> None:
    """A form that offers them opens at once."""
    code = (
        "import sys; from mia_core.defenses.catalogue import DEFENSES, combination_refusal; "
        "from mia_core.experiment import Experiment; "
        "combination_refusal([DEFENSES['dp_sgd_user'](), DEFENSES['skip_layers'](), DEFENSES['rounding']()], Experiment()); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
