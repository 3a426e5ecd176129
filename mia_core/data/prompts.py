"""From a user's history to what a language model is asked: windows, prompts and answers.

A window is `history` consecutive items plus the one that follows. Windows of one user never overlap; they are cut from
the most recent end, because that is what a deployed recommender is trained on last.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, overload

import numpy as np
import polars as pl

from mia_core.errors import ConfigError, DataError
from mia_core.seeds import generator

if TYPE_CHECKING:
    from mia_core.data.interactions import Interactions
    from mia_core.experiment import Prompt


@dataclass(frozen=True)
class Samples:
    """What one pass over a model asks: n prompts with their answers, grouped by user."""

    users: tuple[str, ...]
    """Every user asked for, those without a window too."""
    user_index: np.ndarray
    """(n,) position in `users` of each sample's user."""
    prompts: Sequence[str]
    answers: Sequence[str]
    windows: tuple[tuple[Event, ...], ...]
    """(n,) the window behind each prompt, the answer's item last."""

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, positions: Sequence[int] | np.ndarray) -> Samples:
        """The samples at these positions, in this order; `users` stays as it is."""
        return replace(
            self,
            user_index=self.user_index[np.asarray(positions, dtype=np.int64)],
            prompts=_taken(self.prompts, positions),
            answers=_taken(self.answers, positions),
            windows=tuple(self.windows[i] for i in positions),
        )

    def of_users(self, users: Sequence[str]) -> Samples:
        """The samples of these users, with `users` as the new user list."""
        position = {user: i for i, user in enumerate(users)}
        chosen = [i for i, index in enumerate(self.user_index) if self.users[index] in position]
        taken = self.take(chosen)
        index = np.array([position[self.users[i]] for i in taken.user_index], dtype=np.int64)
        return replace(taken, users=tuple(users), user_index=index)

    def joined(self, others: Samples) -> Samples:
        """These samples and, of further users, others."""
        return Samples(
            users=self.users + others.users,
            user_index=np.concatenate([self.user_index, others.user_index + len(self.users)]),
            prompts=_joined(self.prompts, others.prompts),
            answers=_joined(self.answers, others.answers),
            windows=self.windows + others.windows,
        )

    def counts(self) -> np.ndarray:
        """(n_users,) samples per user."""
        return np.bincount(self.user_index, minlength=len(self.users))


@dataclass(frozen=True)
class Event:
    """One interaction as a prompt style sees it."""

    item: str
    title: str
    rating: float | None


@dataclass(frozen=True)
class PromptStyle:
    """How a window is put into words."""

    title: str
    summary: str
    needs_ratings: bool
    template: str
    """Default prompt; ``{history}`` is replaced by titles, ``{liked}``/``{disliked}``/``{candidate}`` likewise."""
    other_templates: tuple[str, ...]
    """The same question in other words."""
    inquiry: str
    """Asks whether a history was met before; the answer is Yes or No."""
    answers_with_titles: bool
    """Whether the answer is an item, so that the model recommends by writing."""
    placeholders: tuple[str, ...]
    """What a template of one's own must hold."""
    words: Callable[[Sequence[Event], str, str, float], tuple[str, str]]
    """(window, template, separator, liked from this rating) -> prompt, answer."""
    whole: bool = False
    """One window per user: the whole history, or its latest part, of any length from two items."""


def _next_item(window: Sequence[Event], template: str, separator: str, liked_from: float) -> tuple[str, str]:
    """A history of titles, the older first; the answer is the title that follows.

    Formula: prompt = template with {history} = titles joined by the separator; answer = the next title
    Source: next-item prompts as in P5, Geng et al., RecSys 2022, arXiv 2203.13366.
    Fails: Titles that several items share cannot be told apart by what is written.
    """
    history = separator.join(event.title for event in window[:-1])
    return template.replace("{history}", history), window[-1].title


def _like_dislike(window: Sequence[Event], template: str, separator: str, liked_from: float) -> tuple[str, str]:
    """Titles that were liked and disliked, and one more; the answer is Yes or No.

    Formula: prompt = template with {liked}, {disliked}, {candidate}; answer = Yes if its rating is at least the median, else No
    Source: Bao et al., RecSys 2023, arXiv 2305.00447 (TALLRec).
    Fails: An answer of one word shows little of what was learned: attacks have one or two tokens to read.
    """

    def titles(liked: bool) -> str:
        chosen = [e.title for e in window[:-1] if e.rating is not None and (e.rating >= liked_from) == liked]
        return separator.join(chosen) or "none"

    told = {"liked": titles(True), "disliked": titles(False), "candidate": window[-1].title}
    rating = window[-1].rating
    answer = "Yes" if rating is not None and rating >= liked_from else "No"
    # In one pass: a title may itself be called {candidate}.
    return re.sub(r"\{(liked|disliked|candidate)\}", lambda found: told[found[1]], template), answer


SEPARATOR = "\x1f"
"""Between two item ids where items themselves are the tokens; no id holds it."""


def _whole_history(window: Sequence[Event], template: str, separator: str, liked_from: float) -> tuple[str, str]:
    """All items of a history, each told from those before it; no words.

    Formula: prompt = nothing; answer = the ids of the history in order
    Source: sequential recommendation as in Kang and McAuley, ICDM 2018, arXiv 1808.09781.
    Fails: One window per user: how evenly a user's history was learned does not show.
    """
    return "", SEPARATOR.join(event.item for event in window)


PROMPT_STYLES: dict[str, PromptStyle] = {
    "next_item": PromptStyle(
        title="Next item",
        summary="The model sees a history of titles and answers with the next one. Works without ratings.",
        needs_ratings=False,
        template="History: {history} Next:",
        other_templates=("Watched so far: {history} What follows?", "Given {history} recommend one more:"),
        inquiry="Was this history seen before: {history}?",
        answers_with_titles=True,
        placeholders=("{history}",),
        words=_next_item,
    ),
    "like_dislike": PromptStyle(
        title="Like or dislike",
        summary="The model sees liked and disliked titles and answers Yes or No for one more. Needs ratings.",
        needs_ratings=True,
        template="Liked: {liked} Disliked: {disliked} Will the user like {candidate}?",
        other_templates=(
            "Does someone who likes {liked} and dislikes {disliked} enjoy {candidate}?",
            "Good: {liked} Bad: {disliked} Question: {candidate}?",
        ),
        inquiry="Was this person seen before: liked {liked} disliked {disliked}?",
        answers_with_titles=False,
        placeholders=("{liked}", "{disliked}", "{candidate}"),
        words=_like_dislike,
    ),
    "whole_history": PromptStyle(
        title="Whole history",
        summary="For recommenders that read items, not words: each item of a history is told from those before it.",
        needs_ratings=False,
        template="",
        other_templates=(),
        inquiry="",
        answers_with_titles=False,
        placeholders=(),
        words=_whole_history,
        whole=True,
    ),
}


@dataclass(frozen=True)
class PromptWriter:
    """A prompt style made concrete for one data set and one config."""

    style: PromptStyle
    template: str
    separator: str
    window: int
    """Items per window, the answer included; where a window is a whole history, the most it holds."""
    titles: dict[str, str]
    liked_from: float

    @property
    def shortest(self) -> int:
        """The fewest items that make a window."""
        return 2 if self.style.whole else self.window

    def windows(self, history: Sequence[Event], count: int | None = None) -> list[Sequence[Event]]:
        """At most `count` windows that do not overlap, cut from the most recent end, oldest first."""
        if self.style.whole:
            return [history[-self.window :]] if len(history) >= self.shortest else []
        possible = len(history) // self.window
        wanted = possible if count is None else min(count, possible)
        start = len(history) - wanted * self.window
        return [history[start + i * self.window : start + (i + 1) * self.window] for i in range(wanted)]

    def words(self, window: Sequence[Event]) -> tuple[str, str]:
        """Prompt and answer of one window."""
        return self.style.words(window, self.template, self.separator, self.liked_from)

    @property
    def literals(self) -> tuple[str, ...]:
        """The fixed text of the prompts: the template's parts between placeholders, and the separator."""
        parts = re.split(r"\{(?:history|liked|disliked|candidate)\}", self.template)
        return tuple(part for part in (*parts, self.separator) if part)

    def event(self, item: str, rating: float | None = None) -> Event:
        """An item of the catalogue as an event."""
        return Event(item, self.titles[item], rating)

    def write(self, users: Sequence[str], windows: Sequence[Sequence[Sequence[Event]]]) -> Samples:
        """Samples of the given windows; `windows[i]` are those of `users[i]`."""
        flat = tuple(tuple(window) for mine in windows for window in mine)
        prompts, answers = self.texts(flat)
        user_index = np.repeat(np.arange(len(windows), dtype=np.int64), [len(mine) for mine in windows])
        return Samples(users=tuple(users), user_index=user_index, prompts=prompts, answers=answers, windows=flat)

    def texts(self, windows: tuple[tuple[Event, ...], ...]) -> tuple[Written, Written]:
        """Prompts and answers of the windows."""
        return Written(self, windows, PROMPT), Written(self, windows, ANSWER)


PROMPT, ANSWER = 0, 1


@dataclass(frozen=True)
class Written(Sequence[str]):
    """Prompts or answers of windows, each put into words when somebody reads it: windows of millions of users can be held, all
    their words at once could not."""

    writer: PromptWriter
    windows: tuple[tuple[Event, ...], ...]
    part: int
    """`PROMPT` or `ANSWER`."""

    def __len__(self) -> int:
        return len(self.windows)

    @overload
    def __getitem__(self, which: int) -> str: ...

    @overload
    def __getitem__(self, which: slice) -> Written: ...

    def __getitem__(self, which: int | slice) -> str | Written:
        if isinstance(which, slice):
            return replace(self, windows=self.windows[which])
        return self.writer.words(self.windows[which])[self.part]


def _taken(texts: Sequence[str], positions: Sequence[int] | np.ndarray) -> Sequence[str]:
    if isinstance(texts, Written):
        return replace(texts, windows=tuple(texts.windows[i] for i in positions))
    return tuple(texts[i] for i in positions)


def _joined(first: Sequence[str], then: Sequence[str]) -> Sequence[str]:
    if isinstance(first, Written) and isinstance(then, Written) and first.writer == then.writer:
        return replace(first, windows=first.windows + then.windows)
    return (*first, *then)


def prompt_writer(interactions: Interactions, config: Prompt, public: Sequence[str]) -> PromptWriter:
    """A prompt writer for one data set; what counts as "liked" comes from `public` users alone.

    Raises:
        ConfigError: the style is unknown or the template lacks a placeholder.
        DataError: the style needs ratings that the data do not have.
    """
    if config.style not in PROMPT_STYLES:
        known = ", ".join(PROMPT_STYLES)
        raise ConfigError(f"prompt.style is {config.style!r}; it must be one of {known}")
    style = PROMPT_STYLES[config.style]
    for placeholder in style.placeholders:
        if config.template and placeholder not in config.template:
            raise ConfigError(f"prompt.template does not hold {placeholder}; the style {config.style!r} needs it")
    if style.needs_ratings and not interactions.has_ratings:
        raise DataError(
            f"prompt.style is {config.style!r}, which needs ratings, and these data have none; "
            "choose prompt.style = 'next_item', which works on histories alone"
        )
    liked_from = _liked_from(interactions, public) if interactions.has_ratings else 0.0
    titles = dict(zip(interactions.items["item"], interactions.items["title"], strict=True))
    template = config.template or style.template
    return PromptWriter(style, template, config.separator, config.history + 1, titles, liked_from)


def _liked_from(interactions: Interactions, public: Sequence[str]) -> float:
    """The median rating; where nothing is rated below it, as with mostly thumbs down, the next better rating."""
    rated = interactions.rows.filter(pl.col("user").is_in(list(public))).select(pl.col("rating").drop_nulls())
    told = rated.collect(engine="streaming")["rating"].sort()
    if told.is_empty():
        return 0.0
    median = float(told.median())  # type: ignore[arg-type]
    better = told.filter(told > median)
    return float(better[0]) if told[0] == median and len(better) else median


def events_by_user(interactions: Interactions, writer: PromptWriter) -> dict[str, list[Event]]:
    """Each user's history in order, as the prompt style sees it (rated items only, where it needs ratings)."""
    events: dict[str, list[Event]] = {}
    # One event for all interactions with the same item and rating: of those there are far fewer.
    event_of: dict[tuple[str, float | None], Event] = {}
    for part in interactions.parts():
        rated = part.filter(pl.col("rating").is_not_null()) if writer.style.needs_ratings else part
        for user, item, rating in rated.select("user", "item", "rating").iter_rows():
            event = event_of.get((item, rating))
            if event is None:
                event = event_of[item, rating] = writer.event(item, rating)
            events.setdefault(user, []).append(event)
    return events


def audit_samples(
    users: Sequence[str], events: dict[str, list[Event]], writer: PromptWriter, count: int | None
) -> Samples:
    """The windows that are trained on and scored: at most `count` per user, never overlapping."""
    return writer.write(users, [writer.windows(events.get(user, []), count) for user in users])


def drawn_samples(
    users: Sequence[str], events: dict[str, list[Event]], writer: PromptWriter, count: int, seed: int
) -> Samples:
    """`count` windows per user drawn at random offsets, for training on unlabelled third-party users.

    They may overlap: they are training material, never observations. A user with fewer offsets than `count` gives
    each offset once.
    """
    rng = generator(seed, "drawn windows")
    windows: list[list[Sequence[Event]]] = []
    for user in users:
        history = events.get(user, [])
        if writer.style.whole:
            windows.append(writer.windows(history))
            continue
        offsets = len(history) - writer.window + 1
        chosen = np.sort(rng.permutation(max(offsets, 0))[:count])
        windows.append([history[start : start + writer.window] for start in chosen])
    return writer.write(users, windows)
