"""The threat model names a test for every line, and each of these tests is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from mia_core import limits

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
COLUMNS = ["asset", "who attacks", "how", "what stops it", "what is left", "test"]
THREATS = (
    "deep link",
    "another owner",
    "DNS rebinding",
    "cross-site WebSocket",
    "content-security policy",
    "path traversal",
    "zip bombs and Parquet bombs",
    "formula injection",
    "Markdown, HTML",
    "pickled weights",
    "unsafe model id",
    "personal data in logs",
    "shell commands",
    "limits per owner",
    "forged rows",
    "forged reports",
    "clickjacking",
    "Ray cluster",
)
"""What must not be left out."""


def rows() -> list[list[str]]:
    """The lines of the table, each as its cells."""
    part = TEXT.partition("## Threat model")[2].partition("\n## ")[0]
    lines = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("|")]
    header, _, *body = [[cell.strip() for cell in line] for line in lines]
    assert header == COLUMNS
    return body


def test_every_threat_has_its_line() -> None:
    table = "\n".join(" ".join(row) for row in rows())
    assert [threat for threat in THREATS if threat not in table] == []


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row[0]}: {row[2]}"[:80])
def test_every_line_is_whole_and_its_tests_exist(row: list[str]) -> None:
    assert len(row) == len(COLUMNS)
    assert all(row)
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", row[-1])
    assert len(named) == row[-1].count("::") > 0
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{path}::{name}"


def test_the_limits_are_those_of_the_program() -> None:
    for limit in (limits.JOBS, limits.UPLOADED, limits.KEPT, limits.LOOKUPS, limits.AT_ONCE):
        assert f"| `{limit.variable}` | {limit.usual} |" in TEXT
