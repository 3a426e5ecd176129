"""Ways of asking one model about the same sample: what is changed in the prompt or the answer before it is asked.

A view is named MODEL, or MODEL/VARIANT, with a number where there are several: "target", "base/no_history",
"target/answer_swapped 2". Nothing here depends on membership outside the known users.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from mia_core.data.augmentation import ItemSimilarity
from mia_core.data.prompts import Event, PromptWriter, Samples
from mia_core.seeds import generator

NOISE_DRAWS = 2
"""Draws of the noise on embeddings at each level; views come level by level."""

SIGNALS = {
    "zlib_bytes": "(n,) bytes of the answer's text after compression",
    "answer_item": "(n,) catalogue position of the true answer's item",
    "history_items": "(n, history) catalogue positions of the prompt's items; -1 before a shorter history",
    "covariates": "(n, 4) log history length of the user, mean log popularity of the window, log popularity of the "
    "answer, characters of the answer",
    "gradient": "(n, 3) 1-, 2- and largest-value norm of the loss gradient by the trained (or last) weights; asked only "
    "where an attack needs it",
    "inquiry": "(n,) log-odds of Yes against No when the target is asked whether it has seen this history, minus the same "
    "for an invented history; asked only where an attack needs it",
}
LISTS = {
    "lists": "(n, length) what the target recommends, best first",
    "lists/own_factors": "(n, length) what a classic recommender recommends to members by their own trained vector, to others "
    "by their history",
    "lists/popular": "(n, length) as in published experiments: members are recommended for, others get what is popular",
    "lists/no_history": "(n, length) what it recommends to nobody in particular",
    "lists/half": "(n, length) what it recommends after the first half of the history",
    "lists/poisoned": "(n, length) what it recommends after a history in which half of the items are swapped",
    "temperatures": "(n, temperatures, repeats) the first choice, drawn again and again",
}
REFERENCES = ("base", "soft", "student", "leaking", "shadows", "trajectory", "self_prompted")
"""Models beside the target that an attack may need; all but the first and `leaking` and `self_prompted` come in
numbers: "soft 0", "student 0", "shadow 0", "trajectory 0" (the soft reference after its first epoch), …"""


@dataclass(frozen=True)
class Catalogue:
    """Items in a fixed order, and what public users alone say about them."""

    items: tuple[str, ...]
    counts: np.ndarray
    """(n_items,) public users who have each item."""
    users: int
    together: scipy.sparse.csr_array
    """(n_items, users) 1 where a public user has the item."""

    @staticmethod
    def of(items: Sequence[str], histories: Sequence[Sequence[Event]]) -> Catalogue:
        """The catalogue, with the histories of `public` users."""
        ordered = tuple(sorted(items))
        place = {item: i for i, item in enumerate(ordered)}
        pairs = {(place[event.item], u) for u, history in enumerate(histories) for event in history}
        rows, columns = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2).T
        shape = (len(ordered), max(1, len(histories)))
        together = scipy.sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)
        return Catalogue(ordered, np.asarray(together.sum(axis=1)).ravel(), len(histories), together)

    @cached_property
    def position(self) -> Mapping[str, int]:
        """Place of each item."""
        return {item: i for i, item in enumerate(self.items)}

    @cached_property
    def share(self) -> np.ndarray:
        """(n_items,) share of public users who have each item."""
        return self.counts / max(1, self.users)

    @cached_property
    def similarity(self) -> ItemSimilarity:
        return ItemSimilarity(self.together)

    def nearest(self, item: str) -> list[str]:
        """Items that the same public users have, by cosine of co-occurrence; popular ones where there are too few."""
        if item not in self._nearest:
            near = self.similarity.nearest([self.position[item]])[0]
            self._nearest[item] = [self.items[j] for j in near if j >= 0]
        return self._nearest[item]

    @cached_property
    def _nearest(self) -> dict[str, list[str]]:
        return {}

    def vectors(self, width: int = 32) -> np.ndarray:
        """(n_items, width) item vectors of length one, by truncated SVD of the co-occurrence; zero for unseen items."""
        normal = self.similarity.normal
        width = min(width, min(normal.shape) - 1)
        if width < 1:
            return np.zeros((len(self.items), 1), np.float32)
        start = np.full(min(normal.shape), 1.0)
        left, weight, _ = scipy.sparse.linalg.svds(normal, k=width, v0=start)
        vectors = left * weight
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.where(length > 1e-9, vectors / np.maximum(length, 1e-9), 0).astype(np.float32)


@dataclass(frozen=True)
class Shot:
    """A worked example that can stand before a prompt."""

    user: str
    text: str


@dataclass(frozen=True)
class Examples:
    """Worked examples for a target that serves from its prompt."""

    texts: Sequence[tuple[str, str]]
    """(user, prompt with answer) of public users."""
    shown: int
    """How many stand before each question."""
    seed: int

    def before(self, asked: Samples, original: Samples, members: frozenset[str]) -> Samples:
        """The questions with examples before them; a member's own window is one of them.

        Args:
            original: the samples that are asked about, before any variant changed them.
        """
        prompts = []
        for i, prompt in enumerate(asked.prompts):
            user = original.users[original.user_index[i]]
            rng = generator(self.seed, "examples", *(event.item for event in original.windows[i]))
            order = rng.permutation(len(self.texts))
            others = [self.texts[j][1] for j in order[: self.shown + 1] if self.texts[j][0] != user][: self.shown]
            if user in members:
                others[-1:] = [f"{original.prompts[i]} {original.answers[i]}"]
            shuffled = [others[j] for j in rng.permutation(len(others))]
            prompts.append(" ".join([*shuffled, prompt]))
        return replace(asked, prompts=tuple(prompts))


@dataclass(frozen=True)
class Asking:
    """What variants are made from."""

    writer: PromptWriter
    catalogue: Catalogue
    seed: int
    shots: Mapping[str, Sequence[Shot]]
    """By kind: held_out and member (known users), one more than are shown, so that nobody sees their own."""
    templates: Sequence[str]
    """Other ways of putting the same question."""


def rewritten(samples: Samples, asking: Asking, change: Callable[[tuple[Event, ...], int], Sequence[Event]]) -> Samples:
    """The samples with every window changed and put into words anew."""
    windows = tuple(tuple(change(window, i)) for i, window in enumerate(samples.windows))
    prompts, answers = asking.writer.texts(windows)
    return replace(samples, windows=windows, prompts=prompts, answers=answers)


def _swap(event: Event, asking: Asking, window: Sequence[Event], purpose: str, j: int) -> Event:
    # Seeded by what is asked, so that an answer does not depend on who else is asked about.
    near = [item for item in asking.catalogue.nearest(event.item) if item not in {e.item for e in window}]
    if not near:
        return event
    rng = generator(asking.seed, purpose, j, *(e.item for e in window))
    return replace(asking.writer.event(str(rng.permutation(near)[0])), rating=event.rating)


def _answer_swapped(samples: Samples, asking: Asking, j: int) -> Samples:
    def change(window: tuple[Event, ...], i: int) -> Sequence[Event]:
        near = [item for item in asking.catalogue.nearest(window[-1].item) if item not in {e.item for e in window}]
        if not near:
            return window
        order = generator(asking.seed, "answer swapped", *(e.item for e in window)).permutation(near)
        # Replicates are different items, as long as there are so many.
        return (*window[:-1], replace(asking.writer.event(str(order[j % len(order)])), rating=window[-1].rating))

    return rewritten(samples, asking, change)


def _history_swapped(samples: Samples, asking: Asking, j: int) -> Samples:
    def change(window: tuple[Event, ...], i: int) -> Sequence[Event]:
        rng = generator(asking.seed, "history swapped", j, *(e.item for e in window))
        chosen = rng.permutation(len(window) - 1)[: max(1, (len(window) - 1) // 3)]
        return [_swap(e, asking, window, "swap", j) if k in chosen else e for k, e in enumerate(window)]

    return rewritten(samples, asking, change)


def _with_strangers(window: tuple[Event, ...], asking: Asking, taken: set[int]) -> list[Event]:
    items = {event.item for event in window}
    order = generator(asking.seed, "strangers", *(event.item for event in window)).permutation(asking.catalogue.items)
    fresh = iter([str(item) for item in order[: 3 * len(window)] if item not in items] or [window[-1].item])
    return [asking.writer.event(next(fresh, e.item), e.rating) if k in taken else e for k, e in enumerate(window)]


def _poisoned(samples: Samples, asking: Asking, j: int) -> Samples:
    def change(window: tuple[Event, ...], i: int) -> Sequence[Event]:
        chosen = generator(asking.seed, "poison", *(e.item for e in window)).permutation(len(window) - 1)
        return _with_strangers(window, asking, set(chosen[: max(1, len(chosen) // 2)].tolist()))

    return rewritten(samples, asking, change)


def inquiries(samples: Samples, asking: Asking, answer: str, *, invented: bool) -> Samples:
    """The question whether each history was seen before (or one of strangers' items instead), with a given answer."""
    asker = replace(asking, writer=replace(asking.writer, template=asking.writer.style.inquiry))

    def change(window: tuple[Event, ...], i: int) -> Sequence[Event]:
        return _with_strangers(window, asking, set(range(len(window) - 1))) if invented else window

    asked = rewritten(samples, asker, change)
    return replace(asked, answers=(answer,) * len(asked))


def _without_history(samples: Samples, asking: Asking, j: int) -> Samples:
    return rewritten(samples, asking, lambda window, i: window[-1:])


def _half(samples: Samples, asking: Asking, j: int) -> Samples:
    return rewritten(samples, asking, lambda window, i: (*window[: max(1, len(window) // 2)], window[-1]))


def _lowercase(samples: Samples, asking: Asking, j: int) -> Samples:
    return replace(
        samples,
        prompts=tuple(prompt.lower() for prompt in samples.prompts),
        answers=tuple(answer.lower() for answer in samples.answers),
    )


def _after(kind: str) -> Callable[[Samples, Asking, int], Samples]:
    def ask(samples: Samples, asking: Asking, j: int) -> Samples:
        shots = asking.shots[kind]

        def prefix(user: str) -> str:
            others = [shot.text for shot in shots if shot.user != user][: max(1, len(shots) - 1)]
            return " ".join(others)

        prefixes = [prefix(user) for user in samples.users]
        prompts = [f"{prefixes[u]} {p}" for u, p in zip(samples.user_index, samples.prompts, strict=True)]
        return replace(samples, prompts=tuple(prompts))

    return ask


def _other_template(samples: Samples, asking: Asking, j: int) -> Samples:
    return rewritten(samples, replace(asking, writer=replace(asking.writer, template=asking.templates[j])), _unchanged)


def _unchanged(window: tuple[Event, ...], i: int) -> Sequence[Event]:
    return window


VARIANTS: dict[str, Callable[[Samples, Asking, int], Samples]] = {
    "no_history": _without_history,
    "half": _half,
    "lowercase": _lowercase,
    "after_held_out": _after("held_out"),
    "after_members": _after("member"),
    "answer_swapped": _answer_swapped,
    "history_swapped": _history_swapped,
    "poisoned": _poisoned,
    "template": _other_template,
    "noisy": lambda samples, asking, j: samples,
}
"""How each variant changes the samples. `noisy` leaves them as they are: the model's embeddings are what changes."""


def parse_view(view: str) -> tuple[str, str, int]:
    """(model, variant, replicate) of a view's name; "" and 0 where there is none. The model keeps its own number."""
    found = re.fullmatch(r"([a-z_]+(?: \d+)?)(?:/([a-z_]+)(?: (\d+))?)?", view)
    if found is None:
        raise ValueError(f"{view!r} is no view")
    model, variant, replicate = found.groups()
    return model, variant or "", int(replicate or 0)
