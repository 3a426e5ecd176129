"""Ids, titles and names from a file are shown as they are, and do nothing, on every page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlparse

import polars as pl
import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from mia_core.data import library, synthetic
from mia_core.data.interactions import validate
from mia_core.experiment import Data, Synthetic
from mia_core.pipeline import run_audit
from mia_core.report.results import AuditResult, read_table
from mia_core.storage.store import Store
from tests.test_pipeline import tiny
from tests.ui.serving import SECONDS, Server, settled

pytestmark = pytest.mark.browser
EVIL = "evil.example"
OF_DATA = (
    "start",
    "data",
    "audit",
    "running",
    "results",
    "users",
    "cohorts",
    "lookup",
    "list",
    "map",
    "compare",
    "report",
)
"""Pages that show what came from a file."""
HOSTILE = (
    f"<img src='http://{EVIL}/a.png' onerror='alert(1)'>",
    f"![picture](http://{EVIL}/b.png)",
    f"[a link](http://{EVIL}/c)",
    "<script>alert(2)</script>",
    f'=HYPERLINK("http://{EVIL}/d";"click")',
    "javascript:alert(3)",
    "$$\\frac{1}{2}$$ :material/home: :red[red] **bold** `code`",
    "\u202eright to left\u202c اسم 名前",
    "long " * 2_000,
    "'; DROP TABLE users; --",
)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, AuditResult, str]]:
    """The app on an audit whose users, items and name are hostile, and one of its judged users."""
    home = tmp_path_factory.mktemp("home")
    store = Store(home)
    made = synthetic.generate(Synthetic(users=150, items=60, mean_history=20, tastes=3), 1)
    users = {user: f"{HOSTILE[i % len(HOSTILE)]} {user}" for i, user in enumerate(sorted(set(made.frame["user"])))}
    titles = [f"{HOSTILE[i % len(HOSTILE)]} {i}" for i in range(made.items.height)]
    hostile = validate(
        made.frame.with_columns(pl.col("user").replace_strict(users)),
        made.items.with_columns(pl.Series("title", titles)),
    )
    key = library.save(store, hostile, HOSTILE[0])
    attacks = {"names": ["loss", "target_minus_base", "soft_difference"], "lead": "target_minus_base"}
    experiment = tiny(name=HOSTILE[1][:80], attacks=attacks, evaluation={"map_users": 60})
    result = run_audit(experiment.model_copy(update={"data": Data(source="data-set", key=key)}), store)
    person = read_table(store.find(result.key) or Path(), "users", ["user", "role"]).filter(role="audited_member")[
        "user"
    ][0]
    server = Server(home)
    yield server, result, person
    server.stop()


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """One for all pages: a browser that was there before has the frontend at hand."""
    made = browser.new_context(viewport={"width": 1280, "height": 900})
    yield made
    made.close()


@pytest.mark.parametrize("name", OF_DATA)
def test_what_came_from_a_file_does_nothing(
    attacked: tuple[Server, AuditResult, str], context: BrowserContext, name: str
) -> None:
    server, result, person = attacked
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: pytest.fail(f"a dialog opened: {dialog.message}"))
    address = f"{server.url}/{'' if name == 'start' else name}?audit={result.key}&audits={result.key}"
    if name in ("users", "lookup"):
        address += f"&user={quote(person)}"
    page.goto(address)
    expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=30 * SECONDS)
    settled(page)
    page.wait_for_timeout(0.5 * SECONDS)
    expect(page.get_by_text("fault of ours")).to_have_count(0)
    assert {urlparse(url).hostname for url in asked} <= {"127.0.0.1", None}
    # Addresses of our own may name somebody; nothing may lead anywhere else.
    leading = "[...document.querySelectorAll('[href], [src]')].map(e => e.href?.baseVal ?? e.href ?? e.src)"
    assert {urlparse(address).hostname for address in page.evaluate(leading)} <= {"127.0.0.1", None}
    assert page.locator("[href^='javascript:']").count() == 0
    assert page.locator("[data-testid=stMain] script").count() == 0
    # What a table would export by itself could become a formula; the Report page exports tables.
    assert page.get_by_label("Download as CSV").count() == 0
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0
    page.close()
