from __future__ import annotations

import re
from pathlib import Path

import pytest

from mia_core.attacks.catalogue import ATTACKS
from mia_core.data.formats import FORMATS
from mia_core.data.prompts import PROMPT_STYLES
from mia_core.errors import ConfigError
from mia_core.experiment import Experiment, load_experiment, parse_experiment, read_experiment, to_toml
from mia_core.keys import content_key
from mia_core.models.llm.families import FAMILIES
from mia_core.ui.forms import help_texts

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"seeed": 1}, "seeed: there is no such setting; did you mean 'seed'?"),
        ({"base": {"famly": "t5"}}, "did you mean 'base.family'?"),
        ({"distillation": {"student": {"widht": 3}}}, "did you mean 'distillation.student.width'?"),
        ({"split": {"known_share": 2}}, "split.known_share is 2: input should be less than 1"),
        ({"attacks": {"names": ["los"], "lead": "los"}}, "did you mean 'loss'?"),
        ({"attacks": {"lead": "shadow_classifier"}}, "must be one of the attacks in names"),
        ({"target": {"source": "own"}}, "path is empty"),
        ({"data": {"source": "file"}}, "path is empty"),
        ({"data": {"columns": {"user": "u"}}}, "data.columns.item is missing"),
        ({"attacks": {"settings": {"min_k": 3}}}, "attacks.settings.min_k is 3, but it is a section"),
        ({"recommender": {"l2": float("inf")}}, "recommender.l2 is inf: input should be a finite number"),
        ({"seed": "9" * 5_000}, " … "),
    ],
)
def test_a_wrong_setting_is_named_with_the_way_out(document: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        parse_experiment(document)


@pytest.mark.parametrize("value", ["[" * 5_000, "9" * 5_000, "{a=" * 2_000, "[" * 30 + "]" * 30])
def test_toml_that_no_config_is_like_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="this is not TOML"):
        read_experiment(f"seed = {value}")


@pytest.mark.parametrize(
    "document",
    [
        # What this section's fields start from by themselves, which is not what this section starts from here.
        {"distillation": {"phase_one": {"epochs": 6, "learning_rate": 2e-3}}},
        {"distillation": {"student": {}}},
        {"name": "\x7f\x00\u2028 é"},
    ],
)
def test_a_config_comes_back_from_its_toml(document: dict[str, object]) -> None:
    experiment = parse_experiment(document)
    assert experiment != Experiment()
    assert read_experiment(to_toml(experiment)) == experiment


def test_every_setting_is_part_of_the_key() -> None:
    plain = content_key("audit", 1, Experiment())
    for change in (
        {"seed": 1},
        {"split": {"known_share": 0.3}},
        {"distillation": {"temperature": 2.0}},
        {"base": {"dropout": 0.1}},
    ):
        assert content_key("audit", 1, parse_experiment(change)) != plain
    assert content_key("audit", 2, Experiment()) != plain
    with pytest.raises(TypeError):
        content_key("audit", 1, {"path": Path("x")})


def test_paths_are_taken_from_the_configs_folder(tmp_path: Path) -> None:
    lists = 'path = "model"\nmembers = "m.txt"\nheld_out = "/abs/h.txt"\n'
    (tmp_path / "a.toml").write_text(f'[data]\nsource = "file"\npath = "films"\n[target]\nsource = "own"\n{lists}')
    found = load_experiment(tmp_path / "a.toml", ["seed=4"])
    assert found.data.path == str(tmp_path / "films")
    assert found.target.members == str(tmp_path / "m.txt")
    assert found.target.held_out == "/abs/h.txt"
    assert found.seed == 4


@pytest.mark.parametrize("name", ["demo.toml", "movielens.toml"])
def test_the_examples_are_valid(name: str) -> None:
    assert load_experiment(ROOT / "assets" / name).name


def test_the_readme_names_everything_that_is_registered() -> None:
    readme = (ROOT / "README.md").read_text()
    for names in (ATTACKS, FORMATS, PROMPT_STYLES, FAMILIES):
        for name in names:
            assert f"| {name} |" in readme or f"`{name}`" in readme, name


def test_forms_help_with_the_sentences_of_the_config() -> None:
    assert "ranked against" in help_texts(type(Experiment().evaluation))["negatives"]
    assert help_texts(type(Experiment().prompt))["windows"].startswith("Windows per user")
