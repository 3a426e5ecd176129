from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mia_core.evaluate.calibration import p_values
from mia_core.evaluate.metrics import attack_metrics, best_threshold, roc_table
from mia_core.experiment import Experiment
from mia_core.report.results import Agreement, AttackSummary, AuditResult, Quality, StageTime
from mia_core.storage.store import Store
from mia_core.types import Role

# Two workers share the cores; threads that wait for one another would slow both down many times.
os.environ.setdefault("OMP_NUM_THREADS", "1")

LONGEST_FIRST = (
    "ui/test_browser",
    "ui/test_uploads",
    "test_pipeline",
    "studies/test_defending",
    "studies/test_forgetting",
    "studies/test_study",
    "ui/test_accessibility",
    "ui/test_hostile_strings",
    "ui/test_sign_in",
    "audit/test_exposures",
    "models/",
    "attacks/",
    "test_command_line",
    "ui/",
)
"""Files that take long: with these begun first, both workers end at about the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts what takes longest at the front; the order within a file stays."""

    def place(item: pytest.Item) -> int:
        name = str(item.path)
        return next((i for i, part in enumerate(LONGEST_FIRST) if f"tests/{part}" in name), len(LONGEST_FIRST))

    items.sort(key=place)


KEY = "ab12" + "0" * 60
COUNTS = {
    Role.PUBLIC: 5,
    Role.KNOWN_MEMBER: 30,
    Role.KNOWN_HELD_OUT: 30,
    Role.AUDITED_MEMBER: 70,
    Role.AUDITED_HELD_OUT: 70,
}
SHIFTS = {"loss": 0.0, "distillation": 4.0}
UNSCORED = "m 7"
ODD_IDS = ("00123", "[red]Ana", "Zoë 🎬")
"""Ids of the first three audited members."""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store, which the command line finds, too."""
    home = tmp_path / "home"
    monkeypatch.setenv("MIA_HOME", str(home))
    return Store(home)


@pytest.fixture(scope="session")
def users_table() -> pl.DataFrame:
    """The table of an audit in which one attack works, one is guessing, and one user could not be scored."""
    roles = np.array([role for role, count in COUNTS.items() for _ in range(count)], dtype=object)
    ids = [f"{role[0]}{role[-1]} {i}" for i, role in enumerate(roles)]
    first_member = int(np.argmax(roles == Role.AUDITED_MEMBER))
    ids[first_member : first_member + 3] = ODD_IDS
    ids[first_member + 3] = UNSCORED
    member = np.array([bool(role.member) for role in roles])
    rng = np.random.default_rng(2)
    columns: dict[str, Any] = {"user": ids, "role": [str(role) for role in roles]}
    columns["windows"] = np.where(roles == Role.PUBLIC, 0, 3)
    columns["history_length"] = rng.integers(20, 40, len(ids))
    columns["mean_popularity"] = rng.random(len(ids))
    calibration = np.flatnonzero(roles == Role.AUDITED_HELD_OUT)
    audited = np.isin(roles, [Role.AUDITED_MEMBER, Role.AUDITED_HELD_OUT])
    place = np.full(len(ids), -1)
    place[calibration] = np.arange(len(calibration))
    for attack, shift in SHIFTS.items():
        scores = rng.normal(size=len(ids)) + shift * member
        scores[roles == Role.PUBLIC] = np.nan
        scores[ids.index(UNSCORED)] = np.nan
        columns[f"score.{attack}"] = scores
        p = p_values(scores, scores[calibration], place, rng)
        columns[f"p.{attack}"] = np.where(audited, p, np.nan)
    return pl.DataFrame(columns).with_columns(pl.col(pl.Float64).fill_nan(None))


@pytest.fixture
def make_result(users_table: pl.DataFrame) -> Callable[..., AuditResult]:
    """Makes the result of that audit; keyword arguments replace its fields."""

    def make(**changes: Any) -> AuditResult:
        config = Experiment(name="Tiny audit")
        metrics = []
        for attack in SHIFTS:
            parts = {known: _split(users_table, attack, known) for known in (True, False)}
            metrics += attack_metrics(attack, *parts[False], best_threshold(*parts[True]), config.evaluation, 0)
        result = AuditResult(
            key=KEY,
            name="Tiny audit",
            created="2026-01-02T03:04:05+00:00",
            config=config.model_dump(mode="json"),
            data={"users": 205, "items": 50, "interactions": 6000, "notes": [], "key": "da" * 32},
            roles={str(role): count for role, count in COUNTS.items()},
            lead="distillation",
            attacks=[_summary("loss", "Loss"), _summary("distillation", "Distillation")],
            metrics=metrics,
            quality=[Quality("target", 0.5, 0.3, 0.7, 0.25, 0.1, 0.4, 30)],
            agreement=[Agreement("soft 0", 0.2, 0.8)],
            stages=[StageTime("Read and split the data", 0.1, False)],
            notes=["1 user could not be scored."],
            device="CPU",
            versions={"torch": "2"},
        )
        return dataclasses.replace(result, **changes)

    return make


@pytest.fixture
def save_audit(store: Store, users_table: pl.DataFrame) -> Callable[..., AuditResult]:
    """Puts a result and its tables into the store."""

    def save(result: AuditResult, kind: str = "audit") -> AuditResult:
        rocs = []
        for attack in SHIFTS:
            table = roc_table(*_split(users_table, attack, known=False), resamples=100, confidence=0.95, seed=0)
            rocs.append(table.select(pl.lit(attack).alias("attack"), pl.all()))
        features = users_table.select(
            "user",
            "role",
            pl.lit("target").alias("model"),
            pl.lit("loss").alias("feature"),
            pl.col("score.loss").alias("value"),
        )
        bound = pl.DataFrame({"listed": [1, 2, 3], "wrong_at_most": [0, 1, 1]})
        tables = {"users": users_table, "features": features, "roc": pl.concat(rocs), "list_bound": bound}
        store.build(result.key, kind, lambda folder: result.write(folder, tables), name=result.name, keep=True)
        return result

    return save


@pytest.fixture
def saved(make_result: Callable[..., AuditResult], save_audit: Callable[[AuditResult], AuditResult]) -> AuditResult:
    """That audit, finished and in the store."""
    return save_audit(make_result())


def _split(users: pl.DataFrame, attack: str, known: bool) -> tuple[np.ndarray, np.ndarray]:
    rows = users.filter(pl.col("role").str.starts_with("known" if known else "audited"))
    return rows[f"score.{attack}"].fill_null(np.nan).to_numpy(), rows["role"].str.ends_with("_member").to_numpy()


def _summary(name: str, title: str) -> AttackSummary:
    return AttackSummary(name, title, "What it looks at.", "logits", "honest", "1 on the target", "A paper.")
