"""The page on methods: searched, filtered, and opened by its address."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from mia_core.attacks.catalogue import ATTACKS
from mia_core.ui import prose
from tests.ui.test_pages import no_fault, words

Open = Callable[..., AppTest]


def names(app: AppTest) -> set[str]:
    """What the list leads to."""
    bodies = "".join(element.proto.body for element in app.get("html"))
    return set(re.findall(r'method=([^"&]+)"', bodies))


def test_every_attack_is_listed_and_a_search_thins_the_list(open_page: Open) -> None:
    app = open_page("methods")
    no_fault(app)
    assert names(app) == set(ATTACKS)
    app.text_input("words").input("carlini").run()
    no_fault(app)
    assert "zlib" in names(app)
    assert names(app) < set(ATTACKS)
    app.selectbox("attack_access").select("white box").run()
    assert not names(app)
    assert "Nothing here has all of these words" in words(app)


@pytest.mark.parametrize(("address", "said"), [("min_k", "lowest k%"), ("defence.dp_sgd_user", "Expected effect")])
def test_a_method_is_opened_by_its_address(address: str, said: str, open_page: Open) -> None:
    app = open_page("methods", method=address)
    no_fault(app)
    assert said in words(app)
    assert "Where it fails" in words(app)
    assert "Formula" in words(app)


def test_an_unknown_method_in_the_address_is_explained(open_page: Open) -> None:
    app = open_page("methods", method="<b>no</b>")
    no_fault(app)
    assert "not known here" in words(app)
    assert names(app) == set(ATTACKS)


def test_the_kind_stands_in_the_address(open_page: Open) -> None:
    app = open_page("methods", kind="gate")
    no_fault(app)
    assert names(app) == {"gate.blind_gate", "gate.placebo_gate", "gate.null_gate"}
    app.segmented_control("kind").set_value("prompt").run()
    assert app.query_params["kind"] == "prompt"
    assert "prompt.next_item" in names(app)


def test_texts_are_shown_as_they_are_and_papers_are_linked() -> None:
    assert prose.escaped("<b>`a<b`</b> & **x**") == "&lt;b&gt;<code>a&lt;b</code>&lt;/b&gt; &amp; **x**"
    linked = prose.sources("Somebody 2024, arXiv 2310.16789; 'quoted' <i>")
    assert 'href="https://arxiv.org/abs/2310.16789"' in linked
    assert "<i>" not in linked
