"""Two audits, paired by user: who shows more, by how much, and when nobody can tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mia_core.evaluate.comparison import tpr_difference
from mia_core.report.comparing import (
    common_attacks,
    compare_audits,
    differing_settings,
    explain_finding,
)
from mia_core.report.results import AttackSummary, AuditResult
from mia_core.types import Metric, Role

USERS = 300


def audit(folder: Path, strength: float, *, seed: int = 0, noise: int = 0, **config: Any) -> tuple[AuditResult, Path]:
    """A finished audit whose lead tells members by so many standard deviations; `noise` draws its own part of the scores."""
    folder.mkdir()
    member = np.random.default_rng(seed).random(USERS) < 0.5
    common, own = np.random.default_rng(99).normal(size=USERS), np.random.default_rng(noise).normal(size=USERS)
    users = pl.DataFrame(
        {
            "user": [f"u{i}" for i in range(USERS)],
            "role": [Role.AUDITED_MEMBER if inside else Role.AUDITED_HELD_OUT for inside in member],
            "score.loss": common + 0.3 * own + strength * member,
        }
    )
    ranked = pl.DataFrame({"user": users["user"], "recommender": "target", "hit": np.repeat([0.0, 1.0], USERS // 2)})
    resolved = Metric("loss", "tpr_at_fpr_0.05", 0.5, 0.4, 0.6, USERS)
    settings = {
        "seed": seed,
        "evaluation": {"confidence": 0.95, "resamples": 200},
        "target": {"tuning": "full"},
        **config,
    }
    result = AuditResult(
        key=f"{seed}{noise}",
        name="Audit",
        created="",
        config=settings,
        data={"key": "d" * 64},
        roles={},
        lead="loss",
        attacks=[AttackSummary("loss", "Loss", "", "logits", "honest", "", "")],
        metrics=[resolved],
        quality=[],
        agreement=[],
        stages=[],
        notes=[],
        device="cpu",
        versions={},
    )
    result.write(folder, {"users": users, "ranked": ranked})
    return result, folder


def test_the_stronger_leak_is_called_stronger_whichever_comes_first(tmp_path: Path) -> None:
    weak, strong = audit(tmp_path / "weak", 0.5), audit(tmp_path / "strong", 2.0, noise=1)
    for first, second, sign in ((weak, strong, 1), (strong, weak, -1)):
        found = compare_audits(*first, *second, "loss")
        by_figure = {one.figure: one for one in found.findings}
        for figure in ("auc", "tpr"):
            one = by_figure[figure]
            assert one.told_apart
            assert sign * one.value > 0
            assert one.low <= one.value <= one.high
        words = explain_finding(by_figure["auc"], 2)
        assert ("more than audit 1" if sign > 0 else "less than audit 1") in words
        assert by_figure["hit rate"].value == 0
        assert "cannot be told apart" in explain_finding(by_figure["hit rate"], 2)


def test_pairing_tells_apart_what_the_intervals_of_each_would_not(tmp_path: Path) -> None:
    first, second = audit(tmp_path / "a", 0.8), audit(tmp_path / "b", 1.1, noise=1)
    auc = compare_audits(*first, *second, "loss").findings[0]
    assert auc.told_apart
    # Alone, each AUC is known to about ± 0.05.
    assert auc.high - auc.low < 0.08


def test_the_same_target_again_is_not_called_different(tmp_path: Path) -> None:
    told_apart = 0
    for noise in range(1, 21):
        first, second = (
            audit(tmp_path / f"a{noise}", 1.0, noise=2 * noise),
            audit(tmp_path / f"b{noise}", 1.0, noise=2 * noise + 1),
        )
        told_apart += compare_audits(*first, *second, "loss").findings[0].told_apart
    assert told_apart <= 4


def test_other_splits_are_not_paired_and_the_reason_is_said(tmp_path: Path) -> None:
    first, second = audit(tmp_path / "a", 1.0), audit(tmp_path / "b", 1.0, noise=1)
    frame = pl.read_parquet(second[1] / "users.parquet")
    swapped = {Role.AUDITED_MEMBER: Role.AUDITED_HELD_OUT, Role.AUDITED_HELD_OUT: Role.AUDITED_MEMBER}
    frame.with_columns(pl.col("role").replace(swapped)).write_parquet(second[1] / "users.parquet")
    found = compare_audits(*first, *second, "loss")
    assert not found.findings
    assert "same role in both audits" in found.reason


def test_only_settings_that_differ_are_listed(tmp_path: Path) -> None:
    first, _ = audit(tmp_path / "a", 1.0)
    second, _ = audit(tmp_path / "b", 1.0, target={"tuning": "lora", "lora": {"rank": 4}})
    assert differing_settings([first, second]).rows() == [
        ("target.tuning", "full", "lora"),
        ("target.lora.rank", "–", "4"),
    ]
    assert differing_settings([first, first]).is_empty()
    assert common_attacks([first, second]) == ["loss"]


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_the_difference_of_rates_agrees_with_a_plain_bootstrap(level: float) -> None:
    rng = np.random.default_rng(3)
    member = np.repeat([True, False], 200)
    scores = rng.normal(size=400) + 1.5 * member
    other = 0.7 * scores + 0.7 * rng.normal(size=400)
    found = tpr_difference(scores, other, member, level, 0.95, 1_000, np.random.default_rng(0))

    def rate(values: np.ndarray, inside: np.ndarray) -> float:
        held_out = np.sort(values[~inside])[::-1]
        threshold = held_out[int(level * len(held_out) + 1e-9)]
        return float((values[inside] > threshold).mean())

    assert found.value == pytest.approx(rate(scores, member) - rate(other, member))
    drawn = []
    for _ in range(1_000):
        rows = np.concatenate([rng.choice(200, 200), 200 + rng.choice(200, 200)])
        drawn.append(rate(scores[rows], member[rows]) - rate(other[rows], member[rows]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.04)
    assert found.high == pytest.approx(high, abs=0.04)
