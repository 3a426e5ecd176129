"""The app as people use it: a real server, a real browser, real background jobs."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from mia_core.data import synthetic
from mia_core.experiment import Synthetic
from mia_core.jobs.queue import Queue

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SECONDS = 1_000
expect.set_options(timeout=30 * SECONDS)


class Server:
    """The app on a port of its own, with a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "streamlit", "run", "app.py", f"--server.port={self.port}"]
        environment = {**os.environ, "MIA_HOME": str(self.home), "OMP_NUM_THREADS": "1"}
        with (self.home / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=1)  # noqa: S310
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise AssertionError((self.home / "server.log").read_text())

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("home"))
    yield running
    running.kill()
    for process in psutil.process_iter(["cmdline"]):
        if str(running.home) in (process.info["cmdline"] or []):
            process.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.set_default_timeout(20 * SECONDS)
    yield opened
    opened.close()


def titled(page: Page, title: str, seconds: int = 20) -> None:
    expect(page.get_by_role("heading", level=1, name=title)).to_be_visible(timeout=seconds * SECONDS)
    expect(page.get_by_text("fault of ours")).to_have_count(0)


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


def upload_files(tmp_path: Path) -> list[Path]:
    """MovieLens' own files where they are to be had, else the same layout with invented people."""
    real = os.environ.get("MIA_REAL_DATA")
    if real and (Path(real) / "ml-latest-small").is_dir():
        return [Path(real) / "ml-latest-small" / name for name in ("ratings.csv", "movies.csv")]
    made = synthetic.generate(Synthetic(users=120, items=80), 1)
    names = {"user": "userId", "item": "movieId"}
    made.frame.rename(names).write_csv(tmp_path / "ratings.csv")
    made.items.rename({"item": "movieId"}).write_csv(tmp_path / "movies.csv")
    return [tmp_path / "ratings.csv", tmp_path / "movies.csv"]


def test_an_upload_to_results_on_a_small_setting(server: Server, page: Page, tmp_path: Path) -> None:
    page.goto(f"{server.url}/data")
    titled(page, "Data")
    page.locator("input[type=file]").set_input_files([str(path) for path in upload_files(tmp_path)])
    expect(page.get_by_text("Recognised: MovieLens")).to_be_visible()
    page.get_by_role("textbox", name="Name").fill("Uploaded films")
    page.get_by_role("button", name="Save and go on").click()
    titled(page, "Audit")
    expect(page.get_by_role("combobox", name="Data set")).to_have_value("Uploaded films")
    page.get_by_text("All other settings").click()
    page.get_by_role("tab", name="Base model").click()
    for label, value in {"Width": "16", "Layers": "2", "Vocabulary": "600"}.items():
        page.get_by_role("spinbutton", name=label).fill(value)
        page.keyboard.press("Tab")
    page.get_by_role("tab", name="Distillation").click()
    page.get_by_role("spinbutton", name="Soft windows").fill("2")
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Launch the audit").click()
    expect(page.get_by_text("You may close this page")).to_be_visible()
    titled(page, "Results", seconds=180)
    expect(page.get_by_text("Every attack")).to_be_visible()


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


@pytest.mark.parametrize("path", ["", "data", "audit", "results", "lookup", "list"])
@pytest.mark.parametrize(("width", "scheme"), [(420, "light"), (1440, "dark")])
def test_every_page_fits_its_window(server: Server, browser: Browser, path: str, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(f"{server.url}/{path}")
    expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=20 * SECONDS)
    expect(page.get_by_text("fault of ours")).to_have_count(0)
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0
    context.close()


def test_answers_carry_protective_headers_and_strange_hosts_are_refused(server: Server) -> None:
    with urllib.request.urlopen(f"{server.url}/results") as answer:  # noqa: S310
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.putrequest("GET", "/_stcore/stream", skip_host=True)
    handshake = {
        "Host": "evil.example",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    for name, value in handshake.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == 403
    connection.close()
