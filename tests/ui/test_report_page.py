"""The Report page, and the report itself in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from streamlit.testing.v1 import AppTest

from mia_core.report.finished import read_finished
from mia_core.report.package import sealed_html
from mia_core.report.results import AuditResult
from mia_core.report.vector_charts import HELD_OUT, MEMBER
from mia_core.storage.seal import SealingKey, in_groups
from mia_core.storage.store import Store
from mia_core.types import Gate
from mia_core.ui import charts
from tests.conftest import KEY

FAILED = Gate("null", False, 0.4, 0.001, 70, "p-values are not uniform.", "Compare like with like.")


def labels(app: AppTest) -> list[str]:
    return [str(button.proto.label) for button in app.get("download_button")]


def shown(app: AppTest) -> str:
    return " ".join(
        str(element.value) for kind in ("markdown", "caption", "code", "error", "text") for element in app.get(kind)
    )


def test_without_an_audit_the_page_says_what_to_do(open_page: Callable[..., AppTest]) -> None:
    app = open_page("report")
    assert "needs a finished audit" in shown(app)
    assert not labels(app)


def test_every_file_is_offered_and_nothing_of_single_users_unless_asked(
    open_page: Callable[..., AppTest], saved: AuditResult
) -> None:
    app = open_page("report", audit=KEY)
    assert {"Report (PDF)", "Report (HTML)", "Everything (ZIP)", "users.csv", "split.json"} <= set(labels(app))
    disabled = {str(b.proto.label): b.proto.disabled for b in app.get("download_button")}
    assert disabled["users.csv"]
    assert not disabled["audit.json"]
    assert "no ids" in shown(app)
    app.segmented_control(key="annex").set_value("ids").run()
    assert not app.exception
    assert "personal data" in shown(app)
    assert not {str(b.proto.label): b.proto.disabled for b in app.get("download_button")}["users.csv"]


def test_the_preview_is_the_report_without_what_was_left_out(
    open_page: Callable[..., AppTest], saved: AuditResult
) -> None:
    assert not open_page("report", audit=KEY).get("iframe")
    app = open_page("report", audit=KEY, preview="true")
    preview = app.get("iframe")[0].proto.srcdoc
    assert "Tiny audit" in preview
    assert 'id="glossary"' in preview
    app.multiselect(key="without").set_value(["glossary"]).run()
    assert 'id="glossary"' not in app.get("iframe")[0].proto.srcdoc
    assert 'id="gates"' in app.get("iframe")[0].proto.srcdoc


def test_the_page_shows_the_key_that_seals(open_page: Callable[..., AppTest], saved: AuditResult, store: Store) -> None:
    text = shown(open_page("report", audit=KEY))
    assert in_groups(SealingKey(store.home).fingerprint) in text
    assert SealingKey(store.home).public_key in text


def test_an_invalid_audit_is_announced(
    open_page: Callable[..., AppTest],
    make_result: Callable[..., AuditResult],
    save_audit: Callable[[AuditResult], AuditResult],
) -> None:
    save_audit(make_result(gates=[FAILED]))
    assert "A gate of this audit failed" in shown(open_page("report", audit=KEY))


def test_results_lead_to_the_report(open_page: Callable[..., AppTest], saved: AuditResult) -> None:
    app = open_page("results", audit=KEY, view="Record")
    assert not [label for label in labels(app) if "CSV" in label or "JSON" in label]
    assert any("report" in str(link.proto.page) for link in app.get("page_link"))


def test_the_lookup_page_writes_letters_for_people_who_are_there_and_who_are_not(
    open_page: Callable[..., AppTest], saved: AuditResult
) -> None:
    app = open_page("lookup", audit=KEY, user="00123")
    assert {"Letter (PDF, sealed)", "Letter (text, to be edited)"} <= set(labels(app))
    app.text_input(key="letter_0").set_value("Example Works").run()
    app.segmented_control(key="letter_language").set_value("de").run()
    assert "Example Works" in shown(app)
    assert "Sehr geehrte" in shown(app)
    absent = open_page("lookup", audit=KEY, user="nobody at all")
    assert "does not occur in the data" in " ".join(shown(absent).split())


def test_the_same_thing_has_the_same_colour_on_paper_and_on_the_pages() -> None:
    assert (MEMBER, HELD_OUT) == (charts.MEMBER, charts.HELD_OUT)


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (420, "dark")])
def test_the_report_opens_offline_without_a_complaint(
    browser: Browser, saved: AuditResult, store: Store, tmp_path: Path, width: int, scheme: str
) -> None:
    path = tmp_path / "report.html"
    path.write_bytes(sealed_html(read_finished(store, KEY), SealingKey(store.home), "ids"))
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)  # type: ignore[arg-type]
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if request.url != path.as_uri() else None)
    page.goto(path.as_uri())
    assert page.get_by_role("heading", level=1).inner_text() == "Tiny audit"
    assert page.get_by_role("img").count() >= 4
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    page.get_by_role("link", name="Words").click()
    assert page.url.endswith("#glossary")
    assert complaints == []
    context.close()
