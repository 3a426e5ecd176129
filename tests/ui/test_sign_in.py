"""Signing in: with a provider of the test's own, a real server and a real browser."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from mia_core.store import Store
from mia_core.ui.frame import PAGES
from tests.ui.identity_provider import IdentityProvider
from tests.ui.serving import SECONDS, Server, titled

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    running = IdentityProvider()
    yield running
    running.close()


@pytest.fixture(scope="module")
def guarded(provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app where people have to sign in."""
    home = tmp_path_factory.mktemp("home")
    server = Server(home, start=False)
    (home / "secrets.toml").write_text(provider.secrets(server.url))
    server.start(f"--secrets.files={home / 'secrets.toml'}")
    yield server
    server.stop()


def sign_in(page: Page, name: str) -> None:
    page.get_by_role("button", name="Sign in with your organisation").click()
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Go").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def test_no_page_opens_before_somebody_signed_in(guarded: Server, page: Page) -> None:
    for path in PAGES:
        page.goto(f"{guarded.url}/{'' if path == 'start' else path}")
        expect(page.get_by_role("button", name="Sign in with your organisation")).to_be_visible()
        expect(page.get_by_role("heading", level=1)).to_have_text("MemberScope")
        expect(page.get_by_test_id("stSidebarNav")).to_have_count(0)


def test_what_one_person_made_another_does_not_see(
    guarded: Server, browser: Browser, provider: IdentityProvider
) -> None:
    first, second = (browser.new_context().new_page() for _ in range(2))
    for page, name in ((first, "Ada"), (second, "Grace")):
        page.set_default_timeout(20 * SECONDS)
        page.goto(guarded.url)
        sign_in(page, name)
        expect(page.get_by_text(name, exact=True)).to_be_visible()
    first.goto(f"{guarded.url}/data")
    titled(first, "Data")
    first.get_by_text("Built-in data", exact=True).click()
    first.get_by_role("textbox", name="Name").fill("Ada's own data")
    first.get_by_role("button", name="Save and go on").click()
    titled(first, "Audit")
    key = first.url.partition("data=")[2]
    assert len(key) == 64
    # The other person finds it neither on the page nor by its address.
    second.goto(f"{guarded.url}/audit?data={key}")
    titled(second, "Audit")
    expect(second.get_by_text("Ada's own data")).to_have_count(0)
    owners = sorted((guarded.home / "owners").iterdir())
    assert len(owners) == 2
    assert sorted(len(Store(owner).entries("data-set")) for owner in owners) == [0, 1]
    second.get_by_role("button", name="Sign out").click()
    expect(second.get_by_role("button", name="Sign in with your organisation")).to_be_visible()


def test_a_forged_cookie_opens_nothing(guarded: Server, browser: Browser) -> None:
    context = browser.new_context()
    context.add_cookies([{"name": "_streamlit_user", "value": "forged", "url": guarded.url}])
    page = context.new_page()
    page.goto(f"{guarded.url}/results")
    expect(page.get_by_role("button", name="Sign in with your organisation")).to_be_visible()
    context.close()


def test_without_sign_in_other_machines_are_refused(
    tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_to_all = Server(tmp_path, start=False)
    open_to_all.start("--server.address=0.0.0.0")
    try:
        page.goto(open_to_all.url)
        expect(page.get_by_text("nobody has to sign in")).to_be_visible()
        expect(page.get_by_test_id("stSidebarNav")).to_have_count(0)
    finally:
        open_to_all.stop()
    monkeypatch.setenv("MIA_BEHIND_A_GATE", "1")
    open_to_all.start("--server.address=0.0.0.0")
    try:
        with urllib.request.urlopen(f"{open_to_all.url}/_stcore/health") as answer:  # noqa: S310
            assert answer.status == 200
        page.goto(open_to_all.url)
        expect(page.get_by_test_id("stSidebarNav")).to_be_visible()
    finally:
        open_to_all.stop()
