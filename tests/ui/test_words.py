"""Pages and charts of an audit of sessions speak of sessions."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from mia_core.report.results import AuditResult
from mia_core.types import SESSION, Role
from mia_core.ui import charts
from tests.test_units import of_users


def test_charts_name_the_unit() -> None:
    values = pl.DataFrame({"role": [str(Role.AUDITED_MEMBER), str(Role.AUDITED_HELD_OUT)], "value": [1.0, 2.0]})
    points = pl.DataFrame({name: [0.0, 1.0] for name in ("fpr", "tpr", "low", "high", "false_positives")})
    bound = pl.DataFrame({"listed": [1, 2], "wrong_at_most": [0, 1]})
    drawn = [
        charts.densities(values, "Loss", unit=SESSION),
        charts.place([1.0], [0.0], 0.5, SESSION),
        charts.roc(points, logarithmic=False, unit=SESSION),
        charts.list_bound(bound, SESSION),
    ]
    assert [of_users(json.dumps(chart.to_dict())) for chart in drawn] == [[]] * 4
    assert all("ession" in json.dumps(chart.to_dict()) for chart in drawn)


@pytest.mark.parametrize("page", ["lookup", "list"])
def test_pages_speak_of_sessions(
    page: str,
    make_result: Callable[..., AuditResult],
    save_audit: Callable[[AuditResult], AuditResult],
    users_table: pl.DataFrame,
    open_page: Callable[..., AppTest],
) -> None:
    plain = make_result()
    result = save_audit(dataclasses.replace(plain, data={**plain.data, "unit": "session"}, notes=[]))
    app = open_page(page, audit=result.key, user="00123")
    if page == "list":
        ids = users_table.filter(pl.col("role") == Role.AUDITED_MEMBER)["user"].to_list()[10:30]
        app.text_area(key="cohort_ids").set_value("\n".join(ids))
        next(button for button in app.button if button.label == "Judge this list").click().run()
    kinds = (app.title, app.subheader, app.markdown, app.caption, app.text, app.metric, app.text_input, app.text_area)
    shown = [str(text) for kind in kinds for element in kind for text in (element.value, getattr(element, "label", ""))]
    shown += [element.help or "" for element in app.metric]
    shown += [element.label for element in (*app.expander, *app.select_slider)]
    assert [found for text in shown for found in of_users(text) if text not in users_table["user"]] == []
    assert "sessions" in " ".join(shown)
