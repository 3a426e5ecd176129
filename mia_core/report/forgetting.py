"""The typed result of a check whether a model has forgotten, and what it says in plain words."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from mia_core import parquet
from mia_core.evaluate.equivalence import Judgement
from mia_core.report.export import without_nan
from mia_core.types import UNITS, Unit

WORLDS = {
    "original": "trained on everybody",
    "unlearned": "told to forget",
    "retrained": "trained without the forgotten users",
}
"""What the models that are compared have been through."""
GROUPS = {"forgotten": "forgotten users", "retained": "members who stay", "held_out": "held-out users"}
VERDICT_TITLES = {
    "forgotten": "Forgotten",
    "not forgotten": "Not forgotten",
    "over-forgotten": "Over-forgotten",
    "undecided": "Undecided",
}


@dataclass(frozen=True)
class Figure:
    """A figure with its limits."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Usefulness:
    """How well models of one world recommend to held-out users; mean over models, limits over users."""

    world: str
    """Of `WORLDS`."""
    hit_rate_at_10: Figure
    ndcg_at_10: Figure
    users: int


@dataclass(frozen=True)
class MethodOutcome:
    """Whether one way to forget does, and what it costs."""

    name: str
    title: str
    summary: str
    source: str
    settings: dict[str, Any]
    judgement: Judgement
    usefulness: list[Usefulness]
    """Of its original, unlearned and retrained models; empty where recommendation quality is switched off."""
    drift: Figure
    """How much higher than before it scores members who stay, nats per token."""
    seconds: float | None
    """Forgetting, mean over trainings; None where the clock was not looked at."""
    retraining_seconds: float | None
    """Training anew without the users instead."""

    @property
    def relative_seconds(self) -> float | None:
        """Its time as a share of that of training anew."""
        return self.seconds / self.retraining_seconds if self.seconds is not None and self.retraining_seconds else None


@dataclass(frozen=True)
class ForgettingResult:
    """A finished check. Its table of scores lies beside it as Parquet (see `read_scores`)."""

    key: str
    name: str
    created: str
    """ISO 8601, UTC."""
    config: dict[str, Any]
    data: dict[str, Any]
    """`Interactions.summary()`, and the key."""
    members: int
    forgotten: int
    seeds: int
    margin: float
    alpha: float
    outcomes: list[MethodOutcome]
    device: str
    artifacts: list[str]
    """Keys of everything it was made from."""
    judged: str = "user"
    erased: int = 0
    """Persons who were erased since; its figures stand as they were computed."""

    @property
    def unit(self) -> Unit:
        """What is forgotten, in words."""
        return UNITS[self.judged]

    def outcome(self, name: str) -> MethodOutcome:
        """What was found of one way to forget."""
        return next(outcome for outcome in self.outcomes if outcome.name == name)

    def write(self, folder: Path, scores: pl.DataFrame) -> None:
        """Saves the result and its table into an artifact folder."""
        text = json.dumps(dataclasses.asdict(self), ensure_ascii=False, indent=1)
        (folder / "forgetting.json").write_text(text, encoding="utf-8")
        scores.write_parquet(folder / "scores.parquet")


def read_forgetting(folder: Path) -> ForgettingResult:
    """The result saved in an artifact folder."""
    document = json.loads((folder / "forgetting.json").read_text(encoding="utf-8"))
    return ForgettingResult(**{**document, "outcomes": [_outcome(row) for row in document["outcomes"]]})


def _outcome(row: dict[str, Any]) -> MethodOutcome:
    useful = [
        Usefulness(u["world"], Figure(**u["hit_rate_at_10"]), Figure(**u["ndcg_at_10"]), u["users"])
        for u in row["usefulness"]
    ]
    judgement = Judgement(**row["judgement"])
    return MethodOutcome(**{**row, "judgement": judgement, "usefulness": useful, "drift": Figure(**row["drift"])})


def read_scores(folder: Path) -> pl.DataFrame:
    """The table of scores: method, world (of `WORLDS`), seed (number of the training), group (of `GROUPS`), user, score (mean
    over windows of log p of the model less that of the base, nats per token).
    """
    return parquet.read(folder / "scores.parquet")


def forgetting_document(result: ForgettingResult) -> dict[str, Any]:
    """A check as plain JSON data, with each verdict in words; it holds no ids but those that its config lists."""
    document = dataclasses.asdict(result)
    for row, outcome in zip(document["outcomes"], result.outcomes, strict=True):
        row |= {"relative_seconds": outcome.relative_seconds, "sentences": verdict_sentences(outcome, result.unit)}
    plain: dict[str, Any] = without_nan(document)
    return plain


def verdict_sentences(outcome: MethodOutcome, unit: Unit) -> list[str]:
    """The verdict in plain words, then the statistic behind it."""
    found = outcome.judgement
    who = "1 user" if found.users == 1 else f"{found.users:,} users"
    plain = {
        "forgotten": f"Forgotten: to these models the {who} look like they do to models that were trained without them.",
        "not forgotten": (
            f"Not forgotten: these models still score the {who} higher than models that were trained without them do, which is "
            "what attacks look for."
        ),
        "over-forgotten": (
            f"Over-forgotten: these models score the {who} lower than models that never saw them do. Standing out the other way "
            "gives a person away, too."
        ),
        "undecided": (
            f"Undecided: with {found.seeds} trainings and {who} it is not established that they are forgotten, nor that they "
            "are not."
        ),
    }[found.verdict]
    if found.uneven:
        plain = (
            f"Not forgotten of each: on average the {who} hardly stand out, but single ones do, from what models that were "
            "trained without them say."
        )
    return [unit.say(sentence) for sentence in (plain, *_statistics(found))]


def _statistics(found: Judgement) -> list[str]:
    margin, wide = f"±{found.margin:.0%}", f"{1 - 2 * found.alpha:.0%} interval"
    difference = f"{found.difference:+.3f} nats per token ({found.low:+.3f} to {found.high:+.3f})"
    sentences = []
    if found.left is None:
        sentences.append(
            f"There is little to forget: the model as it was scores them only {found.memory:.3f} nats per token "
            f"({found.memory_low:.3f} to {found.memory_high:.3f}) higher than models without them. The difference from these is "
            f"now {difference}."
        )
    else:
        low, high = ("no limit" if limit is None else percent(limit) for limit in (found.left_low, found.left_high))
        sentences.append(
            f"{percent(found.left)} of the memory is left ({wide}: {low} to {high}); up to {margin} counts as forgotten, as "
            f"fixed beforehand (two one-sided tests: {p_words(found.p_equivalent)}). In scores: {difference}, of a memory of "
            f"{found.memory:.3f}."
        )
    if found.verdict in ("not forgotten", "over-forgotten") and not found.uneven:
        p = found.p_above if found.verdict == "not forgotten" else found.p_below
        sentences.append(
            f"Were the models like those without them, so large a difference would be rare: {p_words(p)} (one-sided), and "
            f"{p_words(found.p_exchange)} when the labels of {2 * found.seeds} models are exchanged."
        )
    if found.verdict == "forgotten" and found.p_exchange <= found.alpha:
        sentences.append(
            f"A difference can still be made out ({p_words(found.p_exchange)} when the labels of {2 * found.seeds} models are "
            "exchanged), but it is smaller than the margin."
        )
    if found.uneven:
        sentences.append(
            f"Between users, what is left varies by {found.spread:.3f} nats (standard deviation beyond chance, "
            f"{p_words(found.p_spread)})."
        )
    if found.verdict == "undecided":
        needed = [
            f"{count:,} {what}"
            for count, what in ((found.seeds_needed, "trainings"), (found.users_needed, "forgotten users"))
            if count is not None
        ]
        sentences.append(
            f"If what was seen stays as it is, {' or '.join(needed)} would decide."
            if needed
            else "More trainings alone, or more forgotten users alone, would not decide; take more of both."
        )
    return sentences


def cost_sentence(outcome: MethodOutcome, unit: Unit) -> str:
    """What forgetting did to everybody else, and how long it took."""
    parts = []
    hits = {useful.world: useful.hit_rate_at_10.value for useful in outcome.usefulness}
    if hits:
        parts.append(
            f"HR@10 for held-out users is {hits['unlearned']:.3f}, {hits['retrained']:.3f} after training anew, "
            f"{hits['original']:.3f} before"
        )
    drift = outcome.drift
    parts.append(
        f"members who stay are scored {drift.value:+.3f} nats per token from before ({drift.low:+.3f} to {drift.high:+.3f})"
    )
    if outcome.relative_seconds is not None:
        parts.append(f"it took {outcome.relative_seconds:.0%} of the time of training anew")
    sentence = "; ".join(parts) + "."
    return unit.say(sentence[0].upper() + sentence[1:])


def p_words(p: float) -> str:
    """A p-value, no more exact than anybody needs."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def percent(share: float) -> str:
    """A share in whole percents."""
    return f"{round(100 * share)}%"
