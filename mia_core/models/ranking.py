"""Does the recommender recommend? The true next item ranked against sampled others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from mia_core.data.prompts import Event, PromptWriter
from mia_core.models.llm.language_model import LanguageModel
from mia_core.models.recommenders.contract import Recommender
from mia_core.observe.observations import observe
from mia_core.seeds import generator

CUTOFF = 10


@dataclass(frozen=True)
class RankingTask:
    """Last windows of n users, each with its true answer and m sampled negatives."""

    users: tuple[str, ...]
    windows: tuple[Sequence[Event], ...]
    candidates: tuple[tuple[str, ...], ...]
    """(n, m + 1) items, the true one first; of a task of likes: rated items, those that were liked first."""


def ranking_task(
    users: Sequence[str],
    events: Mapping[str, Sequence[Event]],
    catalogue: Sequence[str],
    writer: PromptWriter,
    negatives: int,
    seed: int,
) -> RankingTask:
    """The most recent window of each user; negatives are drawn evenly from items the user never touched."""
    rng = generator(seed, "ranking negatives")
    ranked, windows, candidates = [], [], []
    for user in users:
        history = events.get(user, [])
        whole = writer.windows(history, 1)
        if not whole:
            continue
        touched = {event.item for event in history}
        strangers = [item for item in rng.permutation(catalogue) if item not in touched][:negatives]
        ranked.append(user)
        windows.append(whole[-1])
        candidates.append((whole[-1][-1].item, *(str(item) for item in strangers)))
    return RankingTask(tuple(ranked), tuple(windows), tuple(candidates))


def liking_task(
    users: Sequence[str], events: Mapping[str, Sequence[Event]], writer: PromptWriter, most: int = 8
) -> tuple[RankingTask, list[int]]:
    """(the most recent window of each user with what they liked and disliked outside of it, how many of these were liked).

    Users without both are left out, and so is everybody where no item is rated below what counts as liked.
    """
    ranked, windows, candidates, liked = [], [], [], []
    for user in users:
        whole = writer.windows(events.get(user, []), 1)
        if not whole:
            continue
        shown = {event.item for event in whole[-1]}
        rated = [event for event in events[user] if event.rating is not None and event.item not in shown]
        likes = [event.item for event in rated if (event.rating or 0) >= writer.liked_from][-most:]
        dislikes = [event.item for event in rated if (event.rating or 0) < writer.liked_from][-most:]
        if likes and dislikes:
            ranked.append(user)
            windows.append(whole[-1])
            candidates.append((*likes, *dislikes))
            liked.append(len(likes))
    return RankingTask(tuple(ranked), tuple(windows), tuple(candidates)), liked


def liking_aucs(scores: Sequence[np.ndarray], liked: Sequence[int]) -> np.ndarray:
    """(n,) how often each user's liked items score above the disliked ones; a tie counts half."""
    found = []
    for row, count in zip(scores, liked, strict=True):
        above = row[:count, None] - row[None, count:]
        found.append(((above > 0) + 0.5 * (above == 0)).mean())
    return np.array(found, dtype=float)


def language_model_scores(
    model: LanguageModel, task: RankingTask, writer: PromptWriter, on_progress: Callable[[float], None]
) -> list[np.ndarray]:
    """Log-probability of each candidate: of its title, or of "Yes" where the style asks for liking."""
    prompts, answers = [], []
    for window, candidates in zip(task.windows, task.candidates, strict=True):
        for item in candidates:
            # A rating above every threshold: the question is how likely a "Yes" is.
            prompt, answer = writer.words([*window[:-1], writer.event(item, float("inf"))])
            prompts.append(prompt)
            answers.append(answer)
    if not prompts:
        return []
    values = observe(model, prompts, answers, on_progress=on_progress).sample_sum("log_probability")
    ends = np.cumsum([len(candidates) for candidates in task.candidates])[:-1]
    return np.split(values, ends)


Served = Callable[[np.ndarray, scipy.sparse.csr_array], np.ndarray]
"""(scores (n, items), histories (n, items)) -> (n, length) catalogue positions of the served lists, best first."""


def recommender_scores(
    recommender: Recommender, task: RankingTask, position: Mapping[str, int], served: Served | None = None
) -> list[np.ndarray]:
    """Score of each candidate after the rest of the window, for a user whom the recommender knows by it alone.

    Args:
        served: how lists are drawn up, where that is not by score alone: what counts then is a candidate's place in the
            list, and all that are not in it come last together.
    """
    rows, columns = [], []
    for i, window in enumerate(task.windows):
        columns += [position[event.item] for event in window[:-1]]
        rows += [i] * (len(window) - 1)
    shape = (len(task.windows), len(position))
    histories = scipy.sparse.csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    scores = recommender.scores(histories)
    if served is not None:
        lists = served(scores, histories)
        places = np.full(scores.shape, -float(lists.shape[1]))
        np.put_along_axis(places, lists, -np.arange(lists.shape[1], dtype=float)[None], axis=1)
        scores = places
    return [row[[position[item] for item in items]] for row, items in zip(scores, task.candidates, strict=True)]


def popularity_scores(task: RankingTask, popularity: Mapping[str, float]) -> list[np.ndarray]:
    """How many public users have each candidate."""
    return [np.array([popularity.get(item, 0.0) for item in row]) for row in task.candidates]


def hits_and_gains(scores: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(n,) hit at 10 and (n,) NDCG at 10 per user; a tie counts as half a rank."""
    if not scores:
        return np.zeros(0), np.zeros(0)
    ranks = np.array([1 + (row[1:] > row[0]).sum() + 0.5 * (row[1:] == row[0]).sum() for row in scores])
    hit = ranks <= CUTOFF
    return hit.astype(float), np.where(hit, 1 / np.log2(ranks + 1), 0.0)
