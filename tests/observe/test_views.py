"""What is changed in a question, and that nobody else's question can change it."""

from __future__ import annotations

import numpy as np
import pytest

from mia_core.data.prompts import Samples, audit_samples, events_by_user, prompt_writer
from mia_core.data.synthetic import generate
from mia_core.experiment import Prompt, Synthetic
from mia_core.observe.views import VARIANTS, Asking, Catalogue, Shot, inquiries, parse_view


@pytest.fixture(scope="module", params=["next_item", "like_dislike"])
def asked(request: pytest.FixtureRequest) -> tuple[Samples, Asking]:
    made = generate(Synthetic(users=60, items=50), 0)
    writer = prompt_writer(made, Prompt(style=request.param, history=4), [])
    events = events_by_user(made, writer)
    users = sorted(events)
    catalogue = Catalogue.of(made.items["item"].to_list(), [events[user] for user in users[:20]])
    shots = {kind: [Shot(user, f"example of {user}") for user in users[20:23]] for kind in ("held_out", "member")}
    asking = Asking(writer, catalogue, 0, shots, writer.style.other_templates)
    return audit_samples(users[20:], events, writer, 2), asking


def test_each_variant_changes_what_it_says_and_nothing_else(asked: tuple[Samples, Asking]) -> None:
    samples, asking = asked
    for name, change in VARIANTS.items():
        changed = change(samples, asking, 0)
        np.testing.assert_array_equal(changed.user_index, samples.user_index)
        different = [i for i in range(len(samples)) if changed.prompts[i] != samples.prompts[i]]
        answers = [i for i in range(len(samples)) if changed.answers[i] != samples.answers[i]]
        if name == "noisy":
            assert changed == samples
        elif name == "answer_swapped":
            assert bool(answers) == asking.writer.style.answers_with_titles
            assert len(different) + len(answers) >= len(samples)
        else:
            assert len(different) == len(samples), name
            assert bool(answers) == (name == "lowercase")


def test_swapped_items_are_ones_that_the_same_people_have(asked: tuple[Samples, Asking]) -> None:
    samples, asking = asked
    for j in range(3):
        swapped = VARIANTS["answer_swapped"](samples, asking, j)
        for before, after in zip(samples.windows, swapped.windows, strict=True):
            assert after[:-1] == before[:-1]
            assert after[-1].item in asking.catalogue.nearest(before[-1].item)
            assert after[-1].item not in {event.item for event in before}
    replicates = [VARIANTS["answer_swapped"](samples, asking, j).windows[0][-1].item for j in range(3)]
    assert len(set(replicates)) == 3


def test_nearest_items_agree_with_a_plain_cosine(asked: tuple[Samples, Asking]) -> None:
    catalogue = asked[1].catalogue
    have = catalogue.together.toarray()
    item = catalogue.items[int(np.argmax(catalogue.counts))]
    i = catalogue.position[item]
    cosine = have @ have[i] / np.sqrt(np.maximum(have.sum(1), 1) * have[i].sum())
    cosine[i] = -1
    nearest = [catalogue.position[name] for name in catalogue.nearest(item)]
    assert cosine[nearest].min() >= np.sort(cosine)[-11]
    assert i not in nearest


def test_nobody_sees_their_own_example(asked: tuple[Samples, Asking]) -> None:
    samples, asking = asked
    changed = VARIANTS["after_held_out"](samples, asking, 0)
    for prompt, index in zip(changed.prompts, changed.user_index, strict=True):
        assert f"example of {samples.users[index]} " not in prompt
        assert prompt.count("example of") == 2


@pytest.mark.parametrize("name", [*VARIANTS, "inquiry"])
def test_a_question_does_not_depend_on_the_others(name: str, asked: tuple[Samples, Asking]) -> None:
    samples, asking = asked

    def change(some: Samples) -> Samples:
        return inquiries(some, asking, "Yes", invented=True) if name == "inquiry" else VARIANTS[name](some, asking, 1)

    order = np.random.default_rng(0).permutation(len(samples))[:7]
    alone, together = change(samples.take(order)), change(samples).take(order)
    assert alone.prompts == together.prompts
    assert alone.answers == together.answers


def test_an_inquiry_shows_the_history_or_an_invented_one(asked: tuple[Samples, Asking]) -> None:
    samples, asking = asked
    true, invented = (inquiries(samples, asking, "No", invented=made) for made in (False, True))
    for before, told, strange in zip(samples.windows, true.windows, invented.windows, strict=True):
        assert told == before
        assert not {e.item for e in strange[:-1]} & {e.item for e in before}
    assert set(invented.answers) == {"No"}


def test_item_vectors_put_items_of_the_same_people_together(asked: tuple[Samples, Asking]) -> None:
    catalogue = asked[1].catalogue
    vectors = catalogue.vectors(8)
    lengths = np.linalg.norm(vectors, axis=1)
    assert np.allclose(lengths[catalogue.counts > 0], 1, atol=1e-5)
    assert not lengths[catalogue.counts == 0].any()


def test_views_are_named_model_variant_number() -> None:
    assert parse_view("target") == ("target", "", 0)
    assert parse_view("soft 1") == ("soft 1", "", 0)
    assert parse_view("base/answer_swapped 2") == ("base", "answer_swapped", 2)
    with pytest.raises(ValueError, match="no view"):
        parse_view("Target!")
