"""The comparison of all attacks: with figures, and before there are any."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from mia_core.ui import frame


def document() -> dict[str, object]:
    rows = [
        {
            "data": "ml-latest-small",
            "family": "t5",
            "tuning": "full",
            "seed": 0,
            "attack": attack,
            "skipped": "",
            "auc": auc,
            "tpr_at_fpr_0.05": [0.5, 0.4, 0.6],
            "tpr_at_fpr_0.01": [None, None, None],
            **{f"precision_at_recall_{recall}": [0.9, 0.8, 1.0] for recall in (0.1, 0.5, 0.9)},
        }
        for attack, auc in {"loss": [0.9, 0.85, 0.95], "zlib": [0.52, 0.45, 0.6], "lira_online": [None] * 3}.items()
    ]
    cells = [["ml-latest-small", "t5", "full"], ["lastfm-2k", "gpt2", "lora"]]
    return {"shadows": 4, "cells": cells, "rows": rows}


def test_figures_are_shown_and_what_was_not_run_is_said(
    open_page: Callable[..., AppTest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "battery.json").write_text(json.dumps(document()))
    app = open_page("start")
    monkeypatch.setattr(frame, "ROOT", tmp_path)
    monkeypatch.setattr(frame, "pages", lambda: {})
    app = AppTest.from_file(str(Path(__file__).parents[2] / "pages" / "field.py"), default_timeout=60).run()
    assert not app.exception
    (table,) = app.dataframe
    assert set(table.value["AUC"]) == {0.9, 0.52}
    assert any("lastfm-2k, GPT-2, LoRA" in element.value for element in app.caption)


def test_the_page_opens_from_the_navigation(open_page: Callable[..., AppTest]) -> None:
    app = open_page("field")
    assert app.title[0].value == "Every attack, measured"
