"""The app as people use it: a real server, a real browser, real background jobs."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from mia_core.jobs.queue import Queue
from tests.ui.serving import SECONDS, Server, titled

pytestmark = pytest.mark.browser


@pytest.mark.slow
def test_the_demo_from_first_visit_to_results_and_a_lookup(server: Server, page: Page) -> None:
    page.goto(server.url)
    page.get_by_role("button", name="Run the demo").click()
    expect(page.get_by_text("You may close this page")).to_be_visible()
    page.reload()
    expect(page.get_by_text("You may close this page")).to_be_visible()
    titled(page, "Results", seconds=180)
    expect(page.get_by_text("Given one member and one held-out user")).to_be_visible()
    assert "audit=" in page.url
    page.get_by_role("link", name="Lookup").click()
    titled(page, "Was this person's data used?")
    page.get_by_role("textbox", name="User id").fill("user-0001")
    page.get_by_role("button", name="Look up").click()
    expect(page.get_by_text("The answer")).to_be_visible()
    page.reload()
    expect(page.get_by_text("The answer")).to_be_visible()


def test_a_job_survives_a_killed_server_and_can_be_cancelled(server: Server, page: Page) -> None:
    page.goto(f"{server.url}/audit")
    titled(page, "Audit")
    page.get_by_role("textbox", name="Name").fill("To be cancelled")
    page.keyboard.press("Tab")
    page.get_by_role("spinbutton", name="Seed").fill("77")
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Launch the audit").click()
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    address = page.url
    server.kill()
    server.start()
    page.goto(address)
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("was cancelled")).to_be_visible(timeout=40 * SECONDS)
    assert Queue(server.home).jobs(1)[0].state == "cancelled"


def test_a_config_is_checked_while_it_is_typed(server: Server, page: Page) -> None:
    page.goto(f"{server.url}/audit")
    titled(page, "Audit")
    page.get_by_role("tab", name="Expert").click()
    expect(page.get_by_text("This is a valid config.")).to_be_visible()
    editor = page.get_by_label("Config (TOML)")
    editor.click()
    page.keyboard.press("Control+Home")
    page.keyboard.type("sed = 3\n")
    expect(page.get_by_text("did you mean 'seed'")).to_be_visible()
    # Whoever goes on typing loses neither the place nor a letter.
    page.keyboard.press("Control+Home")
    page.keyboard.type("# written by hand\n")
    page.keyboard.press("Delete")
    page.keyboard.press("Delete")
    page.keyboard.press("Delete")
    page.keyboard.type("seed")
    expect(page.get_by_text("did you mean")).to_be_hidden()
    assert editor.input_value().startswith("# written by hand\nseed = 3\n")
