from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import polars as pl
import pytest

from mia_core.errors import ConfigError
from mia_core.report.export import check_destination, metrics_document, write_document
from mia_core.report.results import AuditResult
from mia_core.types import Metric


def refuse(word: str) -> None:
    raise AssertionError(f"{word} is not JSON")


def test_the_document_survives_a_strict_parser_and_holds_every_figure_and_user(
    saved: AuditResult, users_table: pl.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "out.json"
    write_document(path, metrics_document(saved, users_table))
    read = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert {(row["attack"], row["metric"]) for row in read["metrics"]} == {(m.attack, m.metric) for m in saved.metrics}
    assert set(read["metrics"][0]) == {"attack", "metric", "value", "low", "high", "n", "reason", "fpr_limit"}
    limits = {row["metric"]: row["fpr_limit"] for row in read["metrics"] if row["attack"] == "distillation"}
    assert 0.05 < limits["tpr_at_fpr_0.05"] < limits["tpr_at_fpr_0.1"] < 0.2
    assert limits["auc"] is limits["tpr_at_fpr_0.01"] is None
    unresolved = next(row for row in read["metrics"] if row["metric"] == "tpr_at_fpr_0.001")
    assert unresolved["value"] is None
    assert "2,995" in unresolved["reason"]
    users = {row["user"]: row for row in read["users"]}
    assert len(users) == users_table.height
    assert set(users["Zoë 🎬"]) == {
        "user",
        "role",
        "windows",
        "scores",
        "p_values",
        "stratum_p_values",
        "named",
    }
    assert 0 < users["00123"]["p_values"]["distillation"] < 0.1
    assert users["m 7"]["scores"] == {"loss": None, "distillation": None}
    assert read["agreement"] == [{"reference": "soft 0", "kl": 0.2, "top1": 0.8}]
    assert (read["key"], read["lead"], read["notes"]) == (saved.key, saved.lead, saved.notes)


def test_not_a_number_becomes_null(saved: AuditResult, users_table: pl.DataFrame) -> None:
    odd = dataclasses.replace(saved, metrics=[Metric("loss", "auc", math.nan, -math.inf, math.inf, 3)])
    document = metrics_document(odd, users_table.with_columns(pl.lit(math.nan).alias("score.loss")))
    row = document["metrics"][0]
    assert (row["value"], row["low"], row["high"]) == (None, None, None)
    assert all(user["scores"]["loss"] is None for user in document["users"])


def test_a_file_that_cannot_be_written_is_an_error_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder"):
        check_destination(tmp_path)
    with pytest.raises(ConfigError, match="no folder"):
        check_destination(tmp_path / "missing" / "out.json")
    check_destination(tmp_path / "out.json")
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_stays_whole_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("before")
    with pytest.raises(ValueError, match="nan"):
        write_document(path, {"value": math.nan})
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["out.json"]
