"""How histories are put into words."""

from __future__ import annotations

import tracemalloc

import polars as pl
import pytest

from mia_core.data.interactions import validate
from mia_core.data.prompts import Samples, audit_samples, events_by_user, prompt_writer
from mia_core.data.synthetic import generate
from mia_core.experiment import Prompt, Synthetic


def test_with_mostly_thumbs_down_a_thumb_up_is_what_counts_as_liked() -> None:
    rows = {"user": ["a"] * 5, "item": list("12345"), "rating": [0.0, 0.0, 0.0, 1.0, 0.0]}
    data = validate(pl.DataFrame(rows))
    writer = prompt_writer(data, Prompt(style="like_dislike"), ["a"])
    assert [writer.words([*map(writer.event, "12"), writer.event("3", rating)])[1] for rating in (0.0, 1.0)] == [
        "No",
        "Yes",
    ]


def test_titles_that_look_like_placeholders_stay_titles() -> None:
    titles = {"1": "{disliked}", "2": "{candidate}", "3": "{liked}"}
    rows = {"user": ["a"] * 3, "item": list(titles), "rating": [5.0, 1.0, 5.0]}
    data = validate(pl.DataFrame(rows), pl.DataFrame({"item": list(titles), "title": list(titles.values())}))
    template = "Liked: {liked} Disliked: {disliked} And {candidate}?"
    writer = prompt_writer(data, Prompt(style="like_dislike", template=template), ["a"])
    window = [writer.event(item, rating) for item, rating in zip(rows["item"], rows["rating"], strict=True)]
    assert writer.words(window)[0] == "Liked: {disliked} Disliked: {candidate} And {liked}?"


@pytest.fixture(scope="module")
def many() -> tuple[Samples, Samples]:
    """Three windows of each of many users under two templates."""
    data = generate(Synthetic(users=3_000, items=200, mean_history=24), 0)
    found = []
    for template in ("Seen: {history} Next:", "After {history} comes"):
        writer = prompt_writer(data, Prompt(history=5, template=template), [])
        events = events_by_user(data, writer)
        found.append(audit_samples(sorted(events), events, writer, 3))
    return found[0], found[1]


def test_windows_of_many_users_take_less_room_than_their_words(many: tuple[Samples, Samples]) -> None:
    words = sum(len(prompt) + len(answer) for prompt, answer in zip(many[0].prompts, many[0].answers, strict=True))
    data = generate(Synthetic(users=3_000, items=200, mean_history=24), 0)
    writer = prompt_writer(data, Prompt(history=5), [])
    users, events = sorted(set(data.frame["user"])), events_by_user(data, writer)
    tracemalloc.start()
    samples = audit_samples(users, events, writer, 3)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(samples) == len(many[0])
    assert taken < words


def test_words_are_those_of_the_windows_however_they_are_picked(many: tuple[Samples, Samples]) -> None:
    first, second = many
    for i in (0, 1, len(first) - 1, -1):
        titles = [event.title for event in first.windows[i]]
        assert (first.prompts[i], first.answers[i]) == (f"Seen: {' ; '.join(titles[:-1])} Next:", titles[-1])
    assert list(first.prompts[10:20:3]) == [first.prompts[i] for i in (10, 13, 16, 19)]
    picked = first.take([7, 3, 7])
    assert list(picked.prompts) == [first.prompts[i] for i in (7, 3, 7)]
    # Samples that were put into words in two ways keep both.
    both = first.take([0, 1]).joined(second.take([2]))
    assert list(both.prompts) == [first.prompts[0], first.prompts[1], second.prompts[2]]
    assert list(both.answers) == [*first.answers[:2], second.answers[2]]
    assert list(both.take([2, 0]).prompts) == [second.prompts[2], first.prompts[0]]
    with pytest.raises(IndexError):
        first.prompts[len(first)]
