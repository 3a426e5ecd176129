"""The built-in data: invented users with latent tastes over invented titles. Nobody real is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mia_core.data.interactions import Interactions, validate
from mia_core.seeds import generator

if TYPE_CHECKING:
    from mia_core.experiment import Synthetic

FIRST = (
    "Silent Golden Broken Hidden Crimson Distant Electric Frozen Burning Velvet Paper Iron Hollow Midnight Restless "
    "Gentle Forgotten Lucky Savage Borrowed Wandering Quiet Second Last Northern Painted Stolen Endless Little Perfect"
).split()
SECOND = (
    "Harbour Garden Empire Letter Mountain Orchestra Window River Shadow Promise Station Winter Detective Island "
    "Kingdom Carnival Lighthouse Engine Summer Mirror Stranger Voyage Tiger Archive Bridge Theatre Comet Forest Rain Heart"
).split()
PLACE = "of Oslo,of Lima,of Cairo,at Dawn,at Sea,in Exile,in Bloom,on Mars,of Glass,of Thorns,for Two,by Night".split(
    ","
)
ZIPF = 0.8
FOLLOWS = 0.45
"""Chance that the next item is the sequel of the last one: what a sequence model can learn beyond popularity."""


def titles(count: int) -> list[str]:
    """`count` different invented titles with years."""
    names = []
    for i in range(count):
        first, second = FIRST[i % len(FIRST)], SECOND[(i // len(FIRST) + 7 * i) % len(SECOND)]
        turn = i // (len(FIRST) * len(SECOND))
        place = f" {PLACE[turn % len(PLACE)]}" if turn else ""
        part = f" {turn // len(PLACE) + 1}" if turn >= len(PLACE) else ""
        names.append(f"{first} {second}{place}{part} ({1960 + (i * 37) % 64})")
    return names


def generate(config: Synthetic, seed: int) -> Interactions:
    """Seeded interactions: Zipf popularity, each user a mixture of few tastes, sequels that follow one another."""
    rng = generator(seed, "synthetic")
    taste_of_item = rng.integers(config.tastes, size=config.items)
    popularity = (1 + rng.permutation(config.items)) ** -ZIPF
    sequel = _sequels(taste_of_item, rng)
    lengths = _history_lengths(config, rng)
    leanings = rng.dirichlet(np.full(config.tastes, 0.3), size=config.users)
    users, items = [], []
    for user in range(config.users):
        weights = popularity * leanings[user][taste_of_item]
        history = _history(weights / weights.sum(), int(lengths[user]), sequel, rng)
        users.append(np.full(len(history), user))
        items.append(history)
    return _table(config, np.concatenate(users), np.concatenate(items), leanings, taste_of_item, rng)


def _sequels(taste_of_item: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A cycle through the items of each taste."""
    sequel = np.empty(len(taste_of_item), dtype=np.int64)
    for taste in np.unique(taste_of_item):
        members = rng.permutation(np.flatnonzero(taste_of_item == taste))
        sequel[members] = np.roll(members, -1)
    return sequel


def _history_lengths(config: Synthetic, rng: np.random.Generator) -> np.ndarray:
    shortest = min(18, config.mean_history)
    extra = rng.geometric(1 / (config.mean_history - shortest + 1), size=config.users) - 1
    return np.minimum(shortest + extra, max(1, int(0.8 * config.items)))


def _history(weights: np.ndarray, length: int, sequel: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    # Items in order of an exponential race: drawing without replacement by weight, all at once.
    with np.errstate(divide="ignore"):
        race = np.argsort(rng.exponential(size=len(weights)) / weights)
    follows = rng.random(length) < FOLLOWS
    seen = np.zeros(len(weights), dtype=bool)
    history: list[int] = []
    position = 0
    for step in range(length):
        item = sequel[history[-1]] if step and follows[step] else -1
        if item < 0 or seen[item]:
            while seen[race[position]]:
                position += 1
            item = race[position]
        seen[item] = True
        history.append(int(item))
    return np.array(history)


def _table(
    config: Synthetic,
    users: np.ndarray,
    items: np.ndarray,
    leanings: np.ndarray,
    taste_of_item: np.ndarray,
    rng: np.random.Generator,
) -> Interactions:
    width = len(str(config.users))
    user_ids = np.array([f"user-{i + 1:0{max(4, width)}d}" for i in range(config.users)])
    item_ids = np.array([f"item-{i + 1:0{max(4, len(str(config.items)))}d}" for i in range(config.items)])
    columns: dict[str, np.ndarray] = {"user": user_ids[users], "item": item_ids[items]}
    if config.ratings:
        liking = leanings[users, taste_of_item[items]] * config.tastes
        stars = 3 + np.tanh(liking - 1) + rng.normal(0, 0.7, size=len(users))
        columns["rating"] = np.clip(np.round(2 * stars) / 2, 0.5, 5.0)
    if config.timestamps:
        start = 1_400_000_000 + rng.integers(0, 150_000_000, size=config.users)
        gaps = rng.integers(60, 3 * 86_400, size=len(users))
        elapsed = np.cumsum(gaps)
        first = np.searchsorted(users, np.arange(config.users))
        columns["timestamp"] = start[users] + elapsed - elapsed[first][users]
    names = pl.DataFrame({"item": item_ids, "title": titles(config.items)}) if config.titles else None
    return validate(pl.DataFrame(columns), names)
