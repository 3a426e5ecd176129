"""Planted evidence: worlds in which it is known who was trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest

from mia_core.attacks.evidence import Background, Evidence, Known
from mia_core.observe.observations import Observations
from tests.attacks.shadows_in_loops import uneven

WIDTH = 6
FOLDS = 2
SHADOWS = 4
VOCABULARY = 40
ITEMS = 60
HISTORY = 4
LONGEST_LIST = 10
MODELS = ("target", "self_prompted")


def observations(
    rng: np.random.Generator, user_shift: np.ndarray, user_index: np.ndarray, asked: tuple[np.ndarray, np.ndarray]
) -> Observations:
    """Random observations in which the log-probability of each sample is raised by its user's shift.

    Args:
        asked: offsets and tokens of the answers, the same under every view that leaves the answer alone.
    """
    offsets, token = asked
    lengths = np.diff(offsets)
    shift = np.repeat(user_shift[user_index], lengths)
    total = int(offsets[-1])
    log_probability = np.minimum(-0.01, rng.normal(-4, 0.6, total) + shift)
    # The likeliest token is the true one about as often as it is likely.
    right = rng.random(total) < np.exp(log_probability / 2)
    strangers = (token + rng.integers(1, VOCABULARY, total)) % VOCABULARY
    entropy = np.maximum(0.1, rng.normal(3, 0.3, total) - 0.3 * shift)
    hidden = rng.normal(size=(len(user_index), 2, WIDTH)) + 0.8 * user_shift[user_index][:, None, None]
    top = np.clip(rng.normal(0.4, 0.05, total) + 0.1 * shift, 0, 1)
    return Observations(
        offsets=offsets,
        token=token,
        log_probability=log_probability.astype(np.float32),
        entropy=entropy.astype(np.float32),
        top_probability=top.astype(np.float32),
        rank=np.where(right, 0, rng.integers(1, VOCABULARY, total)).astype(np.int32),
        deviation=np.full(total, 1.5, np.float32),
        renyi_half=entropy.astype(np.float32),
        renyi_two=entropy.astype(np.float32),
        log_complement=(-0.5 * np.exp(-entropy / 3)).astype(np.float32),
        root_complement=(1 - 0.5 * np.exp(-entropy / 3)).astype(np.float32),
        top_token=np.where(right, token, strangers).astype(np.int32),
        margin=np.log1p(top / 0.2).astype(np.float32),
        top_ten=np.sqrt(top).astype(np.float32),
        hidden=hidden.astype(np.float32),
    )


def answers(rng: np.random.Generator, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and tokens of random answers."""
    lengths = rng.integers(2, 7, samples)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return offsets, rng.integers(0, VOCABULARY, int(offsets[-1])).astype(np.int32)


def recommended(
    rng: np.random.Generator, hit_rate: np.ndarray, history: np.ndarray, answer: np.ndarray, length: int
) -> np.ndarray:
    """(n, length) lists that hold the true answer with a user's own probability.

    The likelier that is, the more of the history they repeat and the fewer items they invent.
    """
    lists = rng.integers(0, ITEMS, (len(answer), length))
    again = np.take_along_axis(history, rng.integers(0, HISTORY, lists.shape), axis=1)
    lists = np.where(rng.random(lists.shape) < hit_rate[:, None], again, lists)
    lists[rng.random(lists.shape) < 0.25 * (0.6 - hit_rate[:, None])] = -1
    hit = rng.random(len(answer)) < hit_rate
    lists[hit, rng.integers(0, min(3, length), hit.sum())] = answer[hit]
    return lists.astype(np.int32)


def read_only(evidence: Evidence) -> Evidence:
    """The same evidence; whoever writes into it raises."""
    models = [*evidence.views.values(), *(view for views in evidence.cross_fitted.values() for view in views)]
    holders = [*map(vars, models), evidence.signals, evidence.lists, vars(evidence), vars(evidence.background)]
    for array in (value for holder in holders for value in holder.values() if isinstance(value, np.ndarray)):
        array.setflags(write=False)
    return evidence


@pytest.fixture(scope="session")
def world() -> Callable[..., tuple[Evidence, np.ndarray, Known]]:
    """Makes (audited evidence, truth, known users); `strength` is how much training raised the members' answers.

    Each world is made once for all tests.
    """

    @cache
    def make(
        strength: float, *, audited: int = 120, known: int = 80, seed: int = 0
    ) -> tuple[Evidence, np.ndarray, Known]:
        rng = np.random.default_rng(seed)
        users = audited + known
        member = np.arange(users) % 2 == 0
        # The last user has no window: it cannot be scored.
        user_index = np.repeat(np.arange(users - 1), 3)
        n = len(user_index)
        asked = answers(rng, n)
        trained, nothing = strength * member, np.zeros(users)
        inside = np.zeros((users, SHADOWS), dtype=bool)
        for k in range(0, SHADOWS, 2):
            inside[:, k] = rng.random(users) < 0.5
            inside[:, k + 1] = ~inside[:, k]

        def seen(shift: np.ndarray, other: bool = False) -> Observations:
            return observations(rng, shift, user_index, answers(rng, n) if other else asked)

        views = {
            "target": seen(trained),
            "base": seen(nothing),
            "soft 0": seen(nothing),
            "leaking": seen(trained),
            "self_prompted": seen(nothing),
            **{f"shadow {k}": seen(strength * inside[:, k]) for k in range(SHADOWS)},
            **{f"trajectory {k}": seen(nothing) for k in range(3)},
            # What training taught shows in the user's own question and answer, and less and less in altered ones.
            "target/no_history": seen(0.3 * trained),
            "base/no_history": seen(nothing),
            "target/lowercase": seen(nothing, other=True),
            "target/after_held_out": seen(0.5 * trained),
            "target/after_members": seen(1.1 * trained),
            **{f"target/answer_swapped {k}": seen(nothing, other=True) for k in range(3)},
            **{f"base/answer_swapped {k}": seen(nothing, other=True) for k in range(3)},
            **{
                f"{model}/history_swapped {k}": seen(0.4 * trained * (model == "target"))
                for k in range(3)
                for model in MODELS
            },
            **{f"target/template {k}": seen(0.4 * trained) for k in range(2)},
            **{f"target/noisy {k}": seen(0.6 * trained) for k in range(4)},
        }
        history, answer = rng.integers(0, ITEMS, (n, HISTORY)), rng.integers(0, ITEMS, n)
        share = rng.dirichlet(np.ones(ITEMS)) * 5
        gain = (0.1 + 0.4 * np.minimum(trained, 2) / 2)[user_index]
        first = np.where(
            rng.random((n, 4, 5)) < gain[:, None, None], answer[:, None, None], rng.integers(0, ITEMS, (n, 4, 5))
        )
        signals = {
            "zlib_bytes": rng.integers(15, 40, n),
            "answer_item": answer,
            "history_items": history,
            "covariates": np.column_stack([rng.normal(3, 0.5, n), *rng.normal(-3, 1, (2, n)), rng.integers(5, 40, n)]),
            "inquiry": rng.normal(0, 0.6, n) + trained[user_index],
            # What the model has learned leaves a small gradient.
            "gradient": np.exp(rng.normal(1, 0.4, (n, 3)) - 0.8 * trained[user_index][:, None]),
        }
        lists = {
            "lists": recommended(rng, gain, history, answer, LONGEST_LIST),
            "lists/no_history": recommended(rng, 0 * gain, history, answer, LONGEST_LIST),
            "lists/half": recommended(rng, gain, history, answer, LONGEST_LIST),
            "lists/poisoned": recommended(rng, 0 * gain, history, answer, LONGEST_LIST),
            "temperatures": first.astype(np.int32),
        }
        # What was learned resists the poison.
        kept = rng.random(lists["lists"].shape) < gain[:, None]
        lists["lists/poisoned"] = np.where(kept, lists["lists"], lists["lists/poisoned"])
        students = [seen(0.5 * trained) for _ in range(FOLDS)]
        vectors = rng.normal(size=(ITEMS, 8))
        background = Background(
            token_share=rng.dirichlet(np.ones(VOCABULARY)),
            item_share=share,
            item_vectors=(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32),
            token_vectors=rng.normal(size=(VOCABULARY, 5)).astype(np.float32),
        )
        evidence = Evidence(
            users=tuple(f"u{i}" for i in range(users)),
            user_index=user_index,
            views=views,
            cross_fitted={"student": students},
            shadow_in=inside,
            signals=signals,
            lists=lists,
            background=background,
        )
        known_at, audited_at = np.arange(known), np.arange(known, users)
        fold = np.arange(known) // 2 % FOLDS
        truth, labels = member[audited_at], member[known_at]
        truth.setflags(write=False)
        labels.setflags(write=False)
        return (
            read_only(evidence.take(audited_at)),
            truth,
            Known(read_only(evidence.take(known_at).unmet(fold)), labels),
        )

    return make


CATALOGUE = 200
TASTES = 8
SERVED = 30
LONGEST_HISTORY = 16
SHADOW_PEOPLE = 160


@dataclass(frozen=True)
class Shop:
    """Items of several tastes, some of which many people like, and how a recommender ranks them."""

    taste: np.ndarray
    appeal: np.ndarray
    """(CATALOGUE,) logarithm of how many like each item."""
    vectors: np.ndarray

    @staticmethod
    def of(rng: np.random.Generator) -> Shop:
        taste = np.arange(CATALOGUE) % TASTES
        appeal = -1.2 * np.log1p(rng.permutation(CATALOGUE))
        vectors = 0.4 * rng.normal(size=(TASTES, 12))[taste] + 0.7 * rng.normal(size=(CATALOGUE, 12))
        # As in any factorisation, one direction says that an item is popular.
        vectors[:, 0] += 4 * (appeal > np.quantile(appeal, 0.8))
        return Shop(taste, appeal, vectors.astype(np.float32))

    def ranked(self, rng: np.random.Generator, affinity: np.ndarray, length: int, luck: float = 1.0) -> np.ndarray:
        """(n, length) best items by appeal, affinity and luck."""
        scores = self.appeal + affinity + luck * rng.gumbel(size=(len(affinity), CATALOGUE))
        return np.argsort(-scores, axis=1)[:, :length].astype(np.int32)

    def people(self, rng: np.random.Generator, member: np.ndarray, strength: float) -> Evidence:
        """One history and one list each; the lists of members lean towards their history by more, if strength > 0."""
        n, place = len(member), np.arange(LONGEST_HISTORY)
        own = self.taste == rng.integers(0, TASTES, (n, 1))
        history = self.ranked(rng, 4.0 * own, LONGEST_HISTORY)
        history[place < LONGEST_HISTORY - rng.integers(6, LONGEST_HISTORY + 1, (n, 1))] = -1
        had = (history[..., None] == np.arange(CATALOGUE)).any(axis=1)
        share = (had @ np.eye(TASTES)[self.taste] / had.sum(axis=1, keepdims=True))[:, self.taste]
        seen = np.where(had, -np.inf, 0)
        lists = self.ranked(rng, (1 + 3 * strength * member)[:, None] * share + seen, SERVED, luck=0.4)
        # A trained vector holds more of the history than one that is folded in, whatever else was learned.
        by_own_vector = self.ranked(np.random.default_rng(n), 8 * share + seen, SERVED, luck=0.4)
        popular = np.argsort(-self.appeal)[:SERVED].astype(np.int32)
        return Evidence(
            users=tuple(f"u{i}" for i in range(n)),
            user_index=np.arange(n),
            views={},
            signals={"history_items": history[:, :-1], "answer_item": history[:, -1]},
            lists={
                "lists": lists,
                "lists/own_factors": np.where(member[:, None], by_own_vector, lists),
                "lists/popular": np.where(member[:, None], lists, popular),
                "lists/no_history": np.tile(popular, (n, 1)),
            },
        )


@pytest.fixture(scope="session")
def shop_world() -> Callable[..., tuple[Evidence, np.ndarray, Known]]:
    """As `world`, for attacks on a recommender's lists: whole histories, one list each, and a world of the auditor's."""

    @cache
    def make(
        strength: float, *, audited: int = 120, known: int = 80, seed: int = 0
    ) -> tuple[Evidence, np.ndarray, Known]:
        rng = np.random.default_rng(seed)
        shop = Shop.of(rng)
        background = Background(
            token_share=np.empty(0),
            item_share=np.exp(shop.appeal),
            item_vectors=shop.vectors,
            token_vectors=np.empty((0, 1)),
        )
        shadow, member = (np.arange(n) % 2 == 0 for n in (SHADOW_PEOPLE, audited + known))
        of_shadow = replace(shop.people(rng, shadow, strength), background=background)
        people = shop.people(rng, member, strength)
        # The last user has no window: it cannot be scored.
        evidence = replace(
            people,
            user_index=people.user_index[:-1],
            signals={name: values[:-1] for name, values in people.signals.items()},
            lists={name: values[:-1] for name, values in people.lists.items()},
            background=background,
            shadow_world=Known(read_only(of_shadow), shadow),
        )
        parts = (evidence.take(np.arange(known, known + audited)), evidence.take(np.arange(known)))
        truth, labels = member[known:], member[:known]
        for array in (truth, labels, shadow):
            array.setflags(write=False)
        return read_only(parts[0]), truth, Known(read_only(parts[1]), labels)

    return make


@pytest.fixture
def small(world: Callable[..., tuple[Evidence, np.ndarray, Known]]) -> tuple[Evidence, Known]:
    """Few users, who have one, two or three windows."""
    audited, _, known = world(1.0, audited=30, known=24)
    return uneven(audited), Known(uneven(known.evidence), known.member)
