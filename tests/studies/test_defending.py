"""Defences tried on an audit, end to end with real models."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from mia_core.__main__ import application
from mia_core.errors import ConfigError
from mia_core.experiment import Runtime, parse_experiment
from mia_core.pipeline import start
from mia_core.report.defending import (
    DefenseResult,
    TriedDefense,
    by_defense,
    onion_sentences,
    read_defenses,
    read_trade,
    recommendation,
)
from mia_core.storage.store import Store
from mia_core.studies import study
from mia_core.studies.defending import UNDEFENDED, Defending, parse_defending, refused_of_panel, run_defending, study_of
from mia_core.types import Silent

AUDIT: dict[str, Any] = {
    "data": {"synthetic": {"users": 180, "items": 60, "mean_history": 16}},
    "prompt": {"history": 3, "windows": 3},
    "base": {"width": 32, "layers": 2, "vocabulary": 400, "pretraining": {"epochs": 2, "learning_rate": 5e-3}},
    "target": {"training": {"epochs": 20, "learning_rate": 1e-2, "batch_size": 16}},
    "attacks": {"names": ["target_minus_base", "loss"], "lead": "target_minus_base"},
    "evaluation": {"placebo": False, "ranked_users": 40, "resamples": 200},
}
TRIED = [
    {"title": "A third of the windows", "names": ["cap_records"]},
    {"title": "Private", "names": ["dp_sgd_user"], "settings": {"dp_sgd_user": {"epsilon": 1.0}}},
    {"title": "Warm answers", "names": ["temperature"], "settings": {"temperature": {"temperature": 2.0}}},
    {"title": "Some spared", "names": ["spare_the_riskiest"], "settings": {"spare_the_riskiest": {"share": 0.3}}},
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("defended"))


@pytest.fixture(scope="module")
def finished(shared: Store) -> tuple[DefenseResult, pl.DataFrame]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "spare_cores", lambda: 0)
        found = run_defending(document(), shared, runtime=Runtime(device="cpu", threads=1))
    folder = shared.find(found.key)
    assert folder is not None
    return read_defenses(folder), read_trade(folder)


def document(**changes: Any) -> Defending:
    return parse_defending({"experiment": AUDIT, "tried": TRIED, "seeds": [0], **changes})


def test_a_strong_defence_closes_a_leak_and_hiding_outputs_does_not(
    finished: tuple[DefenseResult, pl.DataFrame],
) -> None:
    result, figures = finished
    assert [one.title for one in result.tried] == [UNDEFENDED, *(one["title"] for one in TRIED)]
    assert not any(one.failed for one in result.tried)
    rows = by_defense(figures)
    plain, capped, private, warm, spared = (rows[i] for i in range(5))
    assert plain["auc"]["low"] > 0.8
    assert private["auc"]["low"] < 0.55
    assert private["tpr"]["change_high"] < 0
    assert capped["auc"]["change"] < 0
    # Whoever knows the temperature reckons with it.
    assert warm["auc"]["value"] > plain["auc"]["value"] - 0.08
    assert spared["tpr"]["change"] < 0


def test_a_promise_is_shown_beside_what_is_proven_and_holds(finished: tuple[DefenseResult, pl.DataFrame]) -> None:
    result, figures = finished
    private = by_defense(figures)[2]
    assert private["promised_epsilon"]["value"] == pytest.approx(1.0, abs=0.02)
    assert 0 <= private["epsilon"]["value"] <= 1
    assert not any(one.broken for one in result.tried)
    assert "promised_epsilon" not in by_defense(figures)[1]


def test_the_attack_of_before_is_shown_beside_the_one_that_knows(finished: tuple[DefenseResult, pl.DataFrame]) -> None:
    rows = by_defense(finished[1])
    assert "old_tpr" not in rows[0]
    for number in (1, 2, 4):
        # Without anything learned the attack is the same; it is asked about another target.
        assert rows[number]["old_auc"]["value"] == pytest.approx(rows[number]["auc"]["value"], abs=1e-9)
    # This one compares a cooled target with a base that it does not cool.
    assert rows[3]["old_auc"]["value"] != pytest.approx(rows[3]["auc"]["value"], abs=1e-6)


def test_sparing_some_hides_them_and_says_who_is_next(finished: tuple[DefenseResult, pl.DataFrame]) -> None:
    result, _ = finished
    layers = {layer.layer: layer for layer in result.tried[4].onion}
    assert set(layers) == {"spared", "next", "others"}
    assert layers["spared"].after < layers["spared"].before - 0.3
    assert layers["others"].after > 0.5 * layers["others"].before
    assert len(onion_sentences(result)) >= 3


def test_the_words_name_figures_cost_and_rule(finished: tuple[DefenseResult, pl.DataFrame]) -> None:
    text = " ".join(recommendation(*finished))
    assert "points of HR@10" in text
    assert "set beforehand" in text or "can be recommended" in text
    assert "private training promises" in text


def test_what_is_finished_costs_nothing_the_second_time(
    finished: tuple[DefenseResult, pl.DataFrame], shared: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mia_core.audit.stages.fit", lambda *args, **more: pytest.fail("trained again"))
    monkeypatch.setattr("mia_core.audit.stages.fit_private", lambda *args, **more: pytest.fail("trained again"))
    assert run_defending(document(), shared, runtime=Runtime(device="cpu", threads=1)).key == finished[0].key


def test_who_is_spared_says_nothing_about_anybody_audited(shared: Store) -> None:
    run = start(
        study_of(document()).points[-1].experiment, shared, Silent(), Runtime(device="cpu", threads=1), announce=False
    )
    flipped = start(
        study_of(document()).points[-1].experiment, shared, Silent(), Runtime(device="cpu", threads=1), announce=False
    )
    risks = run.risks
    known = set(run.split.users("known_member"))  # type: ignore[arg-type]
    # Everybody has a risk, members or not, and their own answers are no part of it.
    assert set(risks) == set(run.split.roles)
    assert np.std(list(risks.values())) > 0
    assert known
    assert flipped.risks == risks


def test_shadows_of_a_capped_target_draw_their_own_windows(shared: Store) -> None:
    experiment = parse_experiment({**AUDIT, "defense": {"names": ["cap_records"]}})
    run = start(experiment, shared, Silent(), Runtime(device="cpu", threads=1), announce=False)
    users = run.members_trained_on
    mine, theirs = (run._training_windows(users, purpose) for purpose in ("target", "shadow 0"))
    assert mine.counts().max() == theirs.counts().max() == 1
    assert mine.answers != theirs.answers


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"tried": [{"title": "A", "names": ["dp_sgd_user"], "settings": {"dp_sgd_user": {"epsilon": 0}}}]},
            "epsilon is 0",
        ),
        (
            {"tried": [{"title": "A", "names": ["cap_records"], "settings": {"cap_records": {"records": 0}}}]},
            "records is 0",
        ),
        ({"tried": [{"title": "A", "names": ["dp_sgd"]}]}, "dp_sgd_"),
        ({"tried": [{"title": "A", "names": ["dp_sgd_user", "dp_sgd_record"]}]}, "choose one of them"),
        ({"tried": [TRIED[0], TRIED[0]]}, "twice"),
        ({"tried": []}, "tried"),
        ({"experiment": {**AUDIT, "defense": {"names": ["temperature"]}}}, r"leave \[defense\] out"),
        ({"experiment": {**AUDIT, "target": {"source": "recommender"}}, "tried": [TRIED[0]]}, "it is for a"),
    ],
)
def test_what_cannot_be_tried_is_refused_before_anything_runs(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        document(**changes)


@pytest.mark.parametrize(
    ("changes", "fewest"),
    [
        ({}, 18),
        ({"target": {"tuning": "lora"}}, 20),
        ({"base": {"family": "sasrec"}}, 9),
        ({"target": {"source": "recommender"}}, 3),
    ],
)
def test_every_kind_of_target_has_a_panel_of_its_own(changes: dict[str, Any], fewest: int) -> None:
    panel = list(refused_of_panel(parse_experiment(changes)))
    possible = [tried for tried, refused in panel if not refused]
    assert len(possible) >= fewest
    assert all(reason for tried, reason in panel if tried not in possible)


def test_a_target_that_is_brought_along_has_only_its_outputs_to_defend(tmp_path: Path) -> None:
    own = {"source": "own", "path": str(tmp_path), "members": "a", "held_out": "b"}
    possible = {tried.title for tried, refused in refused_of_panel(parse_experiment({"target": own})) if not refused}
    assert possible == {"Temperature 3", "Rounded to 2 digits", "Only the 5 likeliest tokens", "Noise on outputs"}


def test_a_panel_of_ones_own_is_tried(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'tried = [{ title = "Three", names = ["dp_sgd_user"], settings = { dp_sgd_user = { epsilon = 3.0 } } }]',
        "utf-8",
    )
    ((tried, refused),) = refused_of_panel(parse_experiment(AUDIT), file)
    assert (tried.title, refused) == ("Three", "")
    file.write_text("tried = 3", "utf-8")
    with pytest.raises(ConfigError, match="list named tried"):
        list(refused_of_panel(parse_experiment(AUDIT), file))


def told(changes: dict[str, tuple[float, float, float]], **of_tried: Any) -> str:
    """The recommendation where one defence takes detections from 80% to 20% and costs what is given."""
    plain = TriedDefense(0, UNDEFENDED, [], [0], ["k"], [], "", False, False, "", [])
    one = dataclasses.replace(plain, number=1, title="It", names=["cap_records"], **of_tried)
    rows: list[dict[str, Any]] = []
    for number, tpr in ((0, 0.8), (1, 0.2)):
        rows.append({"tried": number, "metric": "tpr", "value": tpr, "low": tpr - 0.1, "high": tpr + 0.1})
        rows[-1] |= {"change": tpr - 0.8, "change_low": tpr - 0.9, "change_high": tpr - 0.7}
        for name, (change, low, high) in changes.items():
            value = {"tried": number, "metric": name, "value": 0.5 + change, "low": 0.3, "high": 0.7}
            rows.append(value | {"change": change, "change_low": low, "change_high": high})
    result = DefenseResult("k", "n", "", {}, "Attack", 0.05, 0.95, [0], [plain, one], "user", [])
    return " ".join(recommendation(result, pl.DataFrame(rows)))


CHEAP = {"hit_rate_at_10": (-0.01, -0.03, 0.01)}


def test_only_what_costs_little_holds_its_gates_and_changes_the_model_is_recommended() -> None:
    assert "“It” costs 1.0 points of HR@10" in told(CHEAP)
    assert "interval of the change -3 to +1" in told(CHEAP)
    for refused in (
        told({"hit_rate_at_10": (-0.05, -0.08, -0.02)}),
        told(CHEAP, invalid=[0]),
        told(CHEAP, broken=True),
        told({}),
    ):
        assert "Of the defences tried" not in refused
    assert "was not measured" in told({})
    # Where nothing else was tried, what hides outputs is still compared.
    assert "“It” costs" in told(CHEAP, hides_only=True)


def test_a_comparison_is_listed_shown_and_deleted_like_an_audit(
    finished: tuple[DefenseResult, pl.DataFrame], shared: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIA_HOME", str(shared.home))
    key = finished[0].key
    assert key[:12] in CliRunner().invoke(application, ["list"]).output
    shown = CliRunner().invoke(application, ["report", key[:12]]).output
    assert "A third of" in shown
    assert "private training promises" in shown
    CliRunner().invoke(application, ["remove", key, "--yes"])
    assert shared.find(key) is None
    assert not shared.entries("point")
    assert not shared.entries("study")
