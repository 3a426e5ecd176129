"""What can be read about every method of the house."""

from __future__ import annotations

import pytest

from mia_core.attacks.catalogue import ATTACKS
from mia_core.data.prompts import PROMPT_STYLES
from mia_core.defenses.catalogue import DEFENSES
from mia_core.models.llm.families import FAMILIES
from mia_core.models.llm.unlearning import UNLEARNING
from mia_core.models.recommenders import RECOMMENDERS
from mia_core.models.sequence_families import SEQUENCE_FAMILIES
from mia_core.report.methods import KINDS, find_method, inherited, matching, methods_of, sections

REGISTERED = {
    "attack": set(ATTACKS),
    "target": {*FAMILIES, *SEQUENCE_FAMILIES, *RECOMMENDERS},
    "prompt": set(PROMPT_STYLES),
    "defence": set(DEFENSES),
    "unlearning": set(UNLEARNING),
}
TOLD = ("title", "group", "asks", "formula", "source", "access", "cost", "fails")


@pytest.mark.parametrize("kind", REGISTERED)
def test_of_everything_registered_all_that_matters_is_told(kind: str) -> None:
    found = methods_of(kind)
    assert {method.name for method in found} == REGISTERED[kind]
    missing = {method.name: [part for part in TOLD if not getattr(method, part)] for method in found}
    assert not {name: parts for name, parts in missing.items() if parts}


@pytest.mark.parametrize("kind", ["gate", "figure"])
def test_gates_and_figures_have_a_formula_and_a_limit(kind: str) -> None:
    found = methods_of(kind)
    assert len(found) >= 3
    assert all(method.asks and method.formula and method.fails for method in found)


def test_no_two_methods_share_an_address_and_each_is_found_by_its_own() -> None:
    everything = [method for kind in KINDS for method in methods_of(kind)]
    assert len({method.address for method in everything}) == len(everything)
    assert all(find_method(method.address) == method for method in everything)
    for unknown in ("", "no_such", "attack.", "moon.loss", "defence.loss", "a.b.c"):
        assert find_method(unknown) is None


def test_a_docstring_is_parted_at_its_headings_and_nowhere_else() -> None:
    found = sections(
        """First: line.

        Body goes on,
        over two lines.

        Formula: s = a
            + b
        Source: Somebody 2020, arXiv 2001.00001: a note. Differs: not a heading in the middle.
        Fails: always.
        """
    )
    assert found == {
        "Summary": "First: line.",
        "Text": "Body goes on, over two lines.",
        "Formula": "s = a + b",
        "Source": "Somebody 2020, arXiv 2001.00001: a note. Differs: not a heading in the middle.",
        "Fails": "always.",
    }
    assert sections(None) == {"Summary": "", "Text": ""}


def test_what_a_class_does_not_say_it_has_from_the_one_it_extends() -> None:
    published, plain = inherited(ATTACKS["biased_mia_published"]), inherited(ATTACKS["biased_mia"])
    assert published["Formula"] == plain["Formula"]
    # What it says of its own comes first, and the protocol's limits before those of the attack.
    assert published["Summary"] != plain["Summary"]
    assert published["Fails"] != plain["Fails"]
    assert "Differs" not in published


def test_a_search_wants_every_word_in_any_text() -> None:
    attacks = methods_of("attack")
    assert {"min_k", "min_k_plus_plus"} <= {method.name for method in matching(attacks, "lowest TOKEN")} | {
        method.name for method in matching(attacks, "min-k")
    }
    assert [method.name for method in matching(attacks, "2310.16789")] == ["min_k"]
    assert matching(attacks, "yeom thisisnoword") == []
    assert matching(attacks, "  ") == list(attacks)


def test_settings_stand_with_their_defaults() -> None:
    method = find_method("min_k")
    assert method is not None
    assert [(one.name, one.default) for one in method.settings] == [("share", "0.2")]
    assert "tokens" in method.settings[0].text
