"""The table of users and one user's page."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from mia_core.data.interactions import validate
from mia_core.jobs.queue import Queue
from mia_core.report.people import PAGE
from mia_core.report.results import AuditResult
from mia_core.storage.store import Store
from mia_core.types import SESSION
from mia_core.ui.token_text import LEVELS, STRONGEST, token_html
from tests.ui.test_pages import no_fault, words

Open = Callable[..., AppTest]
HOSTILE = "<img src=x onerror=alert(1)> **bold** [link](http://x) $a$"


@pytest.fixture
def audit(
    make_result: Callable[..., AuditResult],
    save_audit: Callable[[AuditResult], AuditResult],
    store: Store,
    users_table: pl.DataFrame,
) -> AuditResult:
    """The tiny audit with its interactions and its tokens, in which a title is hostile."""
    ids = users_table["user"].to_list()
    rows = pl.DataFrame({"user": [user for user in ids for _ in range(3)], "item": ["i1", "i2", "i3"] * len(ids)})
    titles = pl.DataFrame({"item": ["i1", "i2", "i3"], "title": [HOSTILE, "Heat (1995)", "Alien (1979)"]})
    data = validate(rows.with_columns(timestamp=pl.int_range(pl.len()) + 1_000), titles)
    store.build(data.key, "interactions", data.write, keep=True)
    plain = make_result()
    result = save_audit(dataclasses.replace(plain, data={**plain.data, "key": data.key}))
    tokens = pl.DataFrame(
        {
            "user": ["00123"] * 3,
            "window": [0, 0, 1],
            "place": [0, 1, 0],
            "text": [HOSTILE, " Heat", "Alien"],
            "item": ["i1", "i2", "i3"],
            "target": [-1.0, -2.0, -3.0],
            "base": [-4.0, -2.0, -1.0],
            "reference": [None, None, None],
        },
        schema_overrides={"reference": pl.Float64},
    )
    store.alter(result.key, lambda folder: tokens.write_parquet(folder / "tokens.parquet"))
    return result


def table(app: AppTest, column: str = "User") -> pl.DataFrame:
    """The first table with such a column, as it is sent to the browser."""
    return pl.from_pandas(next(frame.value for frame in app.dataframe if column in frame.value.columns))


def html_of(app: AppTest) -> str:
    return "\n".join(element.proto.body for element in app.get("html"))


def test_one_page_of_the_judged_users_comes_with_their_number(open_page: Open, audit: AuditResult) -> None:
    app = open_page("users")
    no_fault(app)
    assert "1–50 of 140 users" in words(app)
    shown = table(app)
    assert shown.height == PAGE
    assert set(shown["Role"]) <= {"audited member", "audited held-out"}
    assert shown["Score"].to_list() == sorted(shown["Score"], reverse=True)


def test_a_filter_goes_into_the_address_and_its_address_gives_the_same_table(
    open_page: Open, audit: AuditResult
) -> None:
    app = open_page("users")
    app.multiselect("find.role").set_value(["known_member"]).run()
    app.text_input("find.has").input("kr 1").run()
    app.selectbox("find.by").select("user").run()
    app.toggle("find.up").set_value(True).run()
    no_fault(app)
    first = table(app)
    assert set(first["Role"]) == {"known member"}
    assert all("kr 1" in user for user in first["User"])
    assert first["User"].to_list() == sorted(first["User"])
    said = {name: values for name, values in app.query_params.items() if name != "audit"}
    assert said == {"role": "known_member", "has": "kr 1", "by": "user", "up": "True"}
    again = open_page("users", audit=audit.key, **said)
    assert table(again).equals(first)
    assert again.text_input("find.has").value == "kr 1"


def test_the_second_page_goes_on_where_the_first_ends(open_page: Open, audit: AuditResult) -> None:
    first = table(open_page("users"))
    app = open_page("users", audit=audit.key, page="2")
    assert "51–100 of 140 users" in words(app)
    second = table(app)
    assert second["Score"][0] <= first["Score"][-1]
    assert not set(first["User"]) & set(second["User"])


def test_a_smaller_search_begins_at_its_first_page(open_page: Open, audit: AuditResult) -> None:
    app = open_page("users", audit=audit.key, page="3")
    app.text_input("find.has").input("r 1").run()
    assert "page" not in app.query_params
    assert "No user fits" not in words(app)


def test_nobody_who_fits_is_said(open_page: Open, audit: AuditResult) -> None:
    app = open_page("users", audit=audit.key, has="nobody is called so")
    no_fault(app)
    assert "No user fits" in words(app)


def test_a_users_page_holds_scores_tokens_titles_and_history(open_page: Open, audit: AuditResult) -> None:
    app = open_page("users", audit=audit.key, user="00123")
    no_fault(app)
    assert "Audited member" in words(app)
    attacks = table(app, "Attack")
    assert attacks["Attack"].to_list() == ["Distillation", "Loss"]
    titles = table(app, "Raised by (nats)")
    assert titles["Raised by (nats)"].to_list() == [3.0, 0.0, -2.0]
    history = table(app, "Time (UTC)")
    assert history["Title"].to_list() == ["Alien (1979)", "Heat (1995)", HOSTILE]
    assert "Window 2 (the latest)" in html_of(app)


def test_what_comes_from_a_file_is_never_markup(open_page: Open, audit: AuditResult) -> None:
    app = open_page("users", audit=audit.key, user="00123")
    assert "<img" not in html_of(app)
    assert "&lt;img src=x onerror=alert(1)&gt;" in html_of(app)
    assert not any(HOSTILE in str(text.value) for text in app.markdown)
    odd = open_page("users", audit=audit.key, user="[red]Ana")
    no_fault(odd)
    assert "[red]Ana" in html_of(odd)


def test_the_next_user_is_the_next_of_the_table(open_page: Open, audit: AuditResult) -> None:
    order = table(open_page("users"))["User"].to_list()
    app = open_page("users", audit=audit.key, user=order[3])
    app.button("after").click().run()
    no_fault(app)
    assert app.query_params["user"] == order[4]
    app.button("before").click().run()
    assert app.query_params["user"] == order[3]
    app.button("back").click().run()
    assert "user" not in app.query_params
    assert "140 users" in words(app)


@pytest.mark.parametrize(("user", "said"), [("kr 5", "Known"), ("pc 0", "Third-party"), ("m 7", "could not be scored")])
def test_users_without_a_score_or_p_value_are_explained(
    user: str, said: str, open_page: Open, audit: AuditResult
) -> None:
    app = open_page("users", audit=audit.key, user=user)
    no_fault(app)
    assert said in words(app)


def test_an_unknown_user_is_explained(open_page: Open, audit: AuditResult) -> None:
    app = open_page("users", audit=audit.key, user="123")
    no_fault(app)
    assert "not part of this audit" in words(app)


def test_an_audit_without_tokens_and_data_says_so(open_page: Open, saved: AuditResult) -> None:
    app = open_page("users", audit=saved.key, user="00123")
    no_fault(app)
    assert "no figures of single tokens" in words(app)
    assert "no longer in the store" in words(app)


def test_taking_interactions_away_is_background_work(open_page: Open, audit: AuditResult, store: Store) -> None:
    app = open_page("users", audit=audit.key, user="00123")
    app.button("without").click().run()
    no_fault(app)
    (job,) = Queue(store.home).jobs()
    assert job.kind == "without"
    assert (job.payload["audit"], job.payload["user"]) == (audit.key, "00123")
    assert "00123" not in job.name
    assert app.query_params["job"] == job.id
    assert "Cancel" in [button.label for button in app.button]


def test_sessions_are_called_so(
    open_page: Open, make_result: Callable[..., AuditResult], save_audit: Callable[[AuditResult], AuditResult]
) -> None:
    plain = make_result()
    save_audit(dataclasses.replace(plain, data={**plain.data, "unit": "session"}))
    app = open_page("users")
    assert app.title[0].value == "Sessions"
    assert "140 sessions" in words(app)
    assert SESSION.many.capitalize() == "Sessions"


@pytest.mark.parametrize(
    ("raised", "name"),
    [
        (STRONGEST, f"ms-up{LEVELS}"),
        (99.0, f"ms-up{LEVELS}"),
        (-99.0, f"ms-down{LEVELS}"),
        (0.5, "ms-up1"),
        (0.01, None),
        (None, None),
    ],
)
def test_a_token_is_shaded_by_how_much_it_was_raised(raised: float | None, name: str | None) -> None:
    shown = token_html(pl.DataFrame({"text": ["a"], "raised": [raised]}, {"text": pl.String, "raised": pl.Float64}))
    assert (f'class="{name}"' in shown) if name else ('class="ms-up' not in shown and 'class="ms-down' not in shown)
