"""A browser that loses its connection in mid-audit: the work goes on, and the page is right afterwards."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import Page, expect

from mia_core.jobs.queue import Queue
from tests.ui.serving import SECONDS, Server, titled

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_a_browser_that_was_offline_shows_the_result_when_it_is_back(server: Server, page: Page) -> None:
    page.goto(server.url)
    page.get_by_role("button", name="Run the demo").click()
    expect(page.get_by_text("You may close this page")).to_be_visible(timeout=60 * SECONDS)
    assert "job=" in page.url
    queue = Queue(server.home)
    (job,) = queue.jobs()
    page.context.set_offline(True)
    end = time.monotonic() + 540
    while queue.get(job.id).state in ("queued", "running") and time.monotonic() < end:
        time.sleep(0.5)
    assert queue.get(job.id).state == "finished"
    # Nothing reaches the browser: the connection was really gone.
    time.sleep(6)
    expect(page.get_by_text("You may close this page")).to_be_visible()
    page.context.set_offline(False)
    titled(page, "Results", seconds=120)
    expect(page.get_by_text("Given one member and one held-out user")).to_be_visible()
    assert f"audit={queue.get(job.id).result_key}" in page.url
    # Whoever comes back with the old address finds the same, and nothing was launched twice.
    page.goto(f"{server.url}/running?job={job.id}")
    expect(page.get_by_text("This audit is finished")).to_be_visible(timeout=60 * SECONDS)
    assert [found.id for found in queue.jobs()] == [job.id]
