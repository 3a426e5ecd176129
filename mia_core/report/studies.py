"""The typed result of a study: one setting varied, or two crossed, over otherwise equal audits."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from mia_core import parquet
from mia_core.report.export import without_nan
from mia_core.report.wording import METRIC_WORDS
from mia_core.storage.store import Store
from mia_core.types import UNITS, USER, Unit

POINT_FIGURES = {
    "hit_rate_at_10": "HR@10",
    "ndcg_at_10": "NDCG@10",
    "agreement_top1": "student agrees with target (same first token)",
    "agreement_kl": "KL(target || student), nats",
    "member_loss": "target's loss on members, nats",
    "held_out_loss": "target's loss on held-out users, nats",
    "loss_gap": "train-validation gap: loss on held-out users minus on members, nats",
    "users": "users",
    "items": "items",
    "density": "density (share of user-item pairs)",
    "mean_history": "mean history length",
    "popularity_gini": "popularity skew (Gini)",
}
"""Figures of a whole audit, which belong to no attack."""
STUDY_TABLES = ("figures", "spread", "modality")


@dataclass(frozen=True)
class Varied:
    """A setting that was varied."""

    path: str
    """Its place in the config, such as ``distillation.alpha``."""
    title: str
    values: list[Any]
    """Numbers, or the words that stand for each value, in the order of the study."""

    @property
    def numeric(self) -> bool:
        """Whether the values are numbers, and so have distances."""
        return all(isinstance(value, int | float) and not isinstance(value, bool) for value in self.values)


@dataclass(frozen=True)
class Failure:
    """A point that could not be audited."""

    point: str
    reason: str


@dataclass(frozen=True)
class StudyResult:
    """A finished study. Its tables lie beside it as Parquet (see `read_study_table`)."""

    key: str
    name: str
    summary: str
    """The question, in a sentence."""
    created: str
    """ISO 8601, UTC."""
    config: dict[str, Any]
    varied: list[Varied]
    attacks: dict[str, str]
    """Name and title of each attack shown."""
    metrics: list[str]
    points: int
    failures: list[Failure]
    invalid: list[str]
    """Points whose audit did not pass its gates: their figures say nothing about membership."""
    judged: str = "user"
    """The unit of its audits, of the first one if they differ; studies of before there were sessions do not say."""
    erased: int = 0
    """Persons who were erased since; its figures stand as they were computed."""

    @property
    def unit(self) -> Unit:
        """What its audits judge, in words."""
        return UNITS[self.judged]

    def write(self, folder: Path, tables: dict[str, pl.DataFrame]) -> None:
        """Saves the result and its tables into an artifact folder."""
        text = json.dumps(dataclasses.asdict(self), ensure_ascii=False, indent=1)
        (folder / "study.json").write_text(text, encoding="utf-8")
        for name, table in tables.items():
            table.write_parquet(folder / f"{name}.parquet")


def read_study(folder: Path) -> StudyResult:
    """The result saved in an artifact folder."""
    document = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    document["varied"] = [Varied(**row) for row in document["varied"]]
    document["failures"] = [Failure(**row) for row in document["failures"]]
    return StudyResult(**document)


def read_study_table(folder: Path, name: str) -> pl.DataFrame:
    """One table of a finished study. Every table has one column for each varied setting, named by its path.

    figures: point, …, audit (key), attack ("" where the figure is of the whole audit), metric (of `METRIC_WORDS` or
        `POINT_FIGURES`), value, low, high (null where there is no interval), n (users it rests on).
    spread: …, attack, metric, mean, standard_deviation (between seeds), lowest, highest, seeds; empty unless `seed` is varied.
    modality: point, …, model, family, feature, group, dip, p_value (Holm's, over all tests of one point), n: whether each
        feature's distribution over users has one mode. Members and held-out users are tested apart: together they have two
        modes wherever an attack works.
    """
    return parquet.read(folder / f"{name}.parquet")


def points_by_study(store: Store) -> dict[str, int]:
    """How many of the audits that were run for studies alone each finished study has, by what to call it."""
    points = {entry.key for entry in store.entries("point")}
    belonging: dict[str, set[str]] = {}
    for entry in store.entries("study"):
        mine = points & set(read_study_table(entry.path, "figures")["audit"])
        belonging.setdefault(f"the study {entry.name}", set()).update(mine)
    belonging["studies that are not finished"] = points - set().union(*belonging.values())
    return {study: len(keys) for study, keys in belonging.items() if keys}


def metric_title(metric: str, unit: Unit = USER) -> str:
    """A figure's name in words."""
    return unit.say(METRIC_WORDS.get(metric) or POINT_FIGURES[metric])


def study_document(result: StudyResult, tables: dict[str, pl.DataFrame]) -> dict[str, Any]:
    """A study as plain JSON data: what `StudyResult` holds, and each table as a list of rows."""
    document = {**dataclasses.asdict(result), **{name: table.to_dicts() for name, table in tables.items()}}
    plain: dict[str, Any] = without_nan(document)
    return plain


FAMILIES = {"t5": "T5", "gpt2": "GPT-2", "llama": "LLaMA"}


def modality_sentences(modality: pl.DataFrame, level: float = 0.05) -> list[str]:
    """For each family of models: which features are spread over users with more than one mode."""
    sentences = []
    # Points that share a model share its distributions, too.
    tested = modality.filter(pl.col("p_value").is_not_null())
    distinct = tested.unique(["family", "model", "feature", "group", "dip", "n"], keep="first", maintain_order=True)
    for (family,), rows in distinct.group_by("family", maintain_order=True):
        several = rows.filter(pl.col("p_value") < level)
        text = f"{FAMILIES.get(str(family), family)}: {several.height} of {rows.height} distributions have more than one mode"
        counts = several.group_by("feature", maintain_order=True).len()
        named = ", ".join(f"{feature} {count}" for feature, count in counts.iter_rows())
        sentences.append(f"{text} ({named})." if named else f"{text}.")
    return sentences
