from __future__ import annotations

import polars as pl

from mia_core.ui import study_charts

LINE = pl.DataFrame(
    {
        "x": [0.0, 0.5, 1.0] * 2,
        "series": ["Loss"] * 3 + ["Distillation"] * 3,
        "value": [0.6, 0.7, 0.8, 0.7, 0.8, 0.9],
        "low": [0.5, 0.6, 0.7, None, None, None],
        "high": [0.7, 0.8, 0.9, None, None, None],
    }
)


def marks(chart: dict) -> list[str]:  # type: ignore[type-arg]
    return [layer["mark"]["type"] for layer in chart["layer"]]


def test_numbers_are_a_line_with_a_band_and_words_are_dots_with_bars() -> None:
    line = study_charts.over_numbers(LINE, "α", "AUC").to_dict()
    assert marks(line) == ["area", "line", "point"]
    assert line["layer"][1]["encoding"]["x"]["type"] == "quantitative"
    words = LINE.with_columns(pl.col("x").cast(pl.String))
    dots = study_charts.over_words(words, "family", "AUC").to_dict()
    assert marks(dots) == ["rule", "point"]
    # The order of the study, not of the alphabet.
    assert dots["layer"][1]["encoding"]["x"]["sort"] == ["0.0", "0.5", "1.0"]


def test_attacks_differ_in_shape_as_well_as_in_colour_and_one_alone_needs_no_legend() -> None:
    chart = study_charts.over_numbers(LINE, "α", "AUC").to_dict()
    encoding = chart["layer"][2]["encoding"]
    assert len(set(encoding["shape"]["scale"]["range"])) == 2
    assert len(set(encoding["color"]["scale"]["range"])) == 2
    alone = study_charts.over_numbers(LINE.filter(series="Loss"), "α", "AUC").to_dict()
    assert alone["layer"][2]["encoding"]["color"]["legend"] is None


def test_two_settings_are_cells_with_their_numbers() -> None:
    rows = pl.DataFrame({"x": ["a", "b"] * 2, "y": ["t", "t", "u", "u"], "value": [0.5, 0.6, 0.7, 0.8]})
    chart = study_charts.crossed(rows.with_columns(low=None, high=None), "student", "target", "AUC").to_dict()
    assert marks(chart) == ["rect", "text"]
    assert chart["layer"][1]["encoding"]["text"]["format"] == ".3f"
