"""Every page opened by its address: does it fit, and what does axe-core find on it beyond what it finds on a bare one?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from mia_core import example
from mia_core.storage.store import Store
from mia_core.ui.frame import PAGES
from tests.ui.serving import SECONDS, Server, settled

pytestmark = pytest.mark.browser
BARE = Path(__file__).with_name("bare_page.py")
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app with the example audits in its store."""
    home = tmp_path_factory.mktemp("home")
    example.install(Store(home))
    running = Server(home)
    yield running
    running.stop()


def violations(page: Page) -> dict[str, list[Any]]:
    """Serious violations: rule -> the elements."""
    # Colours count once they are what they stay: what fades in or out does so at once.
    page.add_style_tag(content="*, *::before, *::after {transition: none !important; animation: none !important}")
    found = Axe().run(page).response["violations"]
    return {rule["id"]: rule["nodes"] for rule in found if rule["impact"] in SERIOUS}


@pytest.fixture(scope="module")
def bare(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Rules that a page of Streamlit's own widgets breaks."""
    server = Server(tmp_path_factory.mktemp("bare"), start=False)
    server.start(script=str(BARE))
    page = browser.new_page()
    page.goto(server.url)
    expect(page.get_by_role("heading", level=1, name="Bare")).to_be_visible()
    page.wait_for_timeout(1 * SECONDS)
    found = set(violations(page))
    page.close()
    server.stop()
    return found


@pytest.fixture(scope="module")
def visitor(browser: Browser) -> Iterator[Page]:
    """One page for all addresses: a browser that was there before has the frontend at hand."""
    page = browser.new_page()
    yield page
    page.close()


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_by_its_address_fits_and_is_as_accessible_as_streamlit_lets_it_be(
    shown: Server, visitor: Page, bare: set[str], name: str, scheme: Any
) -> None:
    page = visitor
    page.set_viewport_size({"width": 1280, "height": 900})
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{shown.url}/{'' if name == 'start' else name}")
    expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=30 * SECONDS)
    settled(page)
    # What draws the style arrives on its own, sometimes last.
    page.locator(".stHtml style").first.wait_for(state="attached")
    found = {rule: nodes for rule, nodes in violations(page).items() if rule not in bare - {"color-contrast"}}
    assert not found, {rule: [node["html"][:160] for node in nodes[:4]] for rule, nodes in found.items()}
    for width in (1440, 420):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(0.15 * SECONDS)
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    expect(page.get_by_text("fault of ours")).to_have_count(0)
