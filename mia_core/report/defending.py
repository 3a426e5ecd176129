"""The typed result of trying defences, and what it says in plain words."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from mia_core import parquet
from mia_core.report.export import without_nan
from mia_core.types import UNITS, Unit

TRADE_FIGURES = {
    "auc": "AUC of the adaptive attack",
    "tpr": "detections at the false positive rate of the comparison",
    "exposed": "detections among the tenth of members that stood out most without a defence (there high by choice)",
    "old_auc": "AUC of the attack that does not know the defence",
    "old_tpr": "detections by the attack that does not know the defence",
    "old_exposed": "detections among the most exposed tenth by the attack that does not know the defence",
    "epsilon": "ε proven at least (largest of the seeds; lower end: smallest)",
    "promised_epsilon": "ε promised at most",
    "hit_rate_at_10": "HR@10",
    "ndcg_at_10": "NDCG@10",
    "likes_auc": "liked told from disliked (AUC)",
}
LAYER_WORDS = {
    "spared": "the members who were spared",
    "next": "the next ones at risk",
    "others": "all other members",
}
BEARABLE = 0.02
"""Loss of HR@10 up to which a defence is recommended: fixed beforehand, for every data set."""


@dataclass(frozen=True)
class OnionLayer:
    """Members of one rank of risk, before and after those at most risk were spared."""

    layer: str
    """spared, next or others."""
    members: int
    """Over all seeds."""
    before: float
    """Share that is detected."""
    after: float


@dataclass(frozen=True)
class TriedDefense:
    """One defence at one strength; number 0 is the target without any."""

    number: int
    title: str
    names: list[str]
    seeds: list[int]
    """Those that its figures rest on."""
    audits: list[str]
    """Keys, by seed."""
    invalid: list[int]
    """Seeds whose audit did not pass its gates."""
    failed: str
    """Why seeds are missing; empty where none is."""
    broken: bool
    """An audit proved more privacy loss than the training promised."""
    hides_only: bool
    """It changes what is shown and nothing in the model."""
    not_adaptive: str
    """Why the attack of before cannot be asked about this target; empty where it can."""
    onion: list[OnionLayer]


@dataclass(frozen=True)
class DefenseResult:
    """A finished comparison of defences. Its figures lie beside it (see `read_trade`)."""

    key: str
    name: str
    created: str
    """ISO 8601, UTC."""
    config: dict[str, Any]
    lead: str
    """Title of the attack that leads, named before the run."""
    level: float
    """False positive rate at which detections are counted: the smallest that all audits resolve."""
    confidence: float
    seeds: list[int]
    tried: list[TriedDefense]
    judged: str
    data: list[str]
    """Keys of the data of each seed."""
    erased: int = 0
    """Persons who were erased since; its figures stand as they were computed."""

    @property
    def unit(self) -> Unit:
        """What is judged, in words."""
        return UNITS[self.judged]

    def write(self, folder: Path, figures: pl.DataFrame) -> None:
        """Saves the result and its figures into an artifact folder."""
        text = json.dumps(dataclasses.asdict(self), ensure_ascii=False, indent=1)
        (folder / "defenses.json").write_text(text, encoding="utf-8")
        figures.write_parquet(folder / "figures.parquet")


def read_defenses(folder: Path) -> DefenseResult:
    """The result saved in an artifact folder."""
    document = json.loads((folder / "defenses.json").read_text(encoding="utf-8"))
    document["tried"] = [
        TriedDefense(**{**row, "onion": [OnionLayer(**layer) for layer in row["onion"]]}) for row in document["tried"]
    ]
    return DefenseResult(**document)


def read_trade(folder: Path) -> pl.DataFrame:
    """tried (number), metric (of `TRADE_FIGURES`), value, low, high, change (against no defence, paired by user),
    change_low, change_high; null where there is none."""
    return parquet.read(folder / "figures.parquet")


def defense_document(result: DefenseResult, figures: pl.DataFrame) -> dict[str, Any]:
    """Everything as plain JSON data."""
    plain: dict[str, Any] = without_nan({**dataclasses.asdict(result), "figures": figures.to_dicts()})
    return plain


Row = dict[str, float | None]


def by_defense(figures: pl.DataFrame) -> dict[int, dict[str, Row]]:
    """Figures of each defence by metric."""
    found: dict[int, dict[str, Row]] = {}
    for row in figures.iter_rows(named=True):
        found.setdefault(row["tried"], {})[row["metric"]] = row
    return found


def recommendation(result: DefenseResult, figures: pl.DataFrame) -> list[str]:
    """What to do, in plain words: the defence that buys most among those that cost little; the rule is part of it."""
    rows = by_defense(figures)
    plain = rows.get(0, {})
    if not plain.get("tpr") or result.tried[0].invalid:
        return ["No valid figure could be computed for the target without a defence, so nothing can be compared."]
    judged = [
        one for one in result.tried[1:] if rows.get(one.number, {}).get("tpr") and not one.broken and not one.invalid
    ]
    costs = {one.number: rows[one.number].get("hit_rate_at_10", {}).get("change") for one in judged}
    if not any(cost is not None for cost in costs.values()):
        sentences = ["What the defences cost was not measured (evaluation.ranked_users = 0), so none is recommended."]
    else:
        sentences = _best(result, judged, costs, rows)
    bound = [one for one in judged if rows[one.number].get("promised_epsilon")]
    if bound:
        least = min(bound, key=lambda one: rows[one.number]["tpr"]["value"] or 0.0)
        promised = rows[least.number]["promised_epsilon"]["value"]
        sentences.append(
            "Only private training promises a limit that holds against every attack, known or not (here ε at most "
            f"{promised:.3g}, but for a chance of δ): {_bought(least, rows, result)}"
        )
    sentences += [
        f"{one.title} does not keep its promise: more privacy loss was proven than its training allows. Do not rely on it."
        for one in result.tried[1:]
        if one.broken
    ]
    sentences.append(
        "These figures hold for this model, these data and the attacks that were run; a defence that only hides outputs does "
        "nothing against somebody who gets the weights."
    )
    return [result.unit.say(sentence) for sentence in sentences]


def _best(
    result: DefenseResult,
    judged: Sequence[TriedDefense],
    costs: Mapping[int, float | None],
    rows: Mapping[int, dict[str, Row]],
) -> list[str]:
    """The defence that the rule chooses, and the rule."""
    # What stands before the outputs leaves in the weights what is there; only where nothing else can be done is it advice.
    changing = [one for one in judged if not one.hides_only] or list(judged)
    bearable = [one for one in changing if (cost := costs[one.number]) is not None and cost >= -BEARABLE]
    helping = [one for one in bearable if (high := rows[one.number]["tpr"]["change_high"]) is not None and high < 0]
    points = f"{100 * BEARABLE:.0f} points of HR@10"
    if not helping:
        return [
            f"None of the {len(changing)} defences that change more than what is shown can be recommended: {len(bearable)} lost "
            f"at most {points}, and none of these took detections down by more than chance may."
        ]
    best = min(helping, key=lambda one: rows[one.number]["tpr"]["value"] or 0.0)
    return [
        f"Of the defences tried, {_bought(best, rows, result)}",
        f"The rule was set beforehand: the fewest detections among what loses at most {points} and changes more than what is "
        f"shown. It is the best of {len(helping)} that help, so that its own figure flatters it a little; the intervals do not "
        "take that into account.",
    ]


def _bought(one: TriedDefense, rows: Mapping[int, dict[str, Row]], result: DefenseResult) -> str:
    mine, plain = rows[one.number], rows[0]
    quality = mine.get("hit_rate_at_10", {})
    change = quality.get("change")
    if change is None:
        cost = "has no measured cost in HR@10"
    else:
        points = abs(100 * change)
        verb = "costs" if change < 0 else "gains"
        told = [f"from {_percent(plain['hit_rate_at_10']['value'])}"]
        low, high = quality["change_low"], quality["change_high"]
        if low is not None and high is not None:
            told.append(f"interval of the change {100 * low:+.0f} to {100 * high:+.0f}")
        cost = f"{verb} {points:.1f} points of HR@10" if points >= 0.05 else "leaves HR@10 as it is"
        cost += f" ({'; '.join(told)})"
    before, after = plain["tpr"]["value"], mine["tpr"]["value"]
    limits = f"{_percent(mine['tpr']['low'])} to {_percent(mine['tpr']['high'])}"
    return (
        f"“{one.title}” {cost} and takes detections at {_percent(result.level)} FPR from {_percent(before)} to "
        f"{_percent(after)} ({100 * result.confidence:.0f}% interval {limits}), against an attacker who knows of it."
    )


def onion_sentences(result: DefenseResult) -> list[str]:
    """What sparing the members at most risk did to them and to those next in line."""
    sentences = []
    for one in result.tried:
        sentences += [
            f"{one.title}: of {LAYER_WORDS[layer.layer]} ({layer.members:,} audited, all seeds) {_percent(layer.before)} were "
            f"detected before and {_percent(layer.after)} after."
            for layer in one.onion
        ]
        before = {layer.layer: layer.before for layer in one.onion}
        if before and before.get("spared", 0.0) < max(before.get("next", 0.0), before.get("others", 0.0)):
            sentences.append(
                f"{one.title}: those who were spared had stood out less than others, so that the risk foretold from "
                "histories did not find the right ones here."
            )
    return [result.unit.say(sentence) for sentence in sentences]


def _percent(value: float | None) -> str:
    return "—" if value is None else f"{100 * value:.0f}%"
