"""How fast the pages of a large finished audit are, in a browser: time to the first paint, time and bytes of a click.

    python benchmarks/surface.py [USERS]

It writes an audit of so many invented users (100,000 unless told otherwise) into a new folder, starts the app on it and opens
every page in headless Chromium. A page has answered when its script has ended, nothing more arrives and the browser draws
again within a frame. Bytes are those of the messages, before compression, and of the files that a click loads.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from large_audit import write_large_audit
from playwright.sync_api import Page, sync_playwright

from mia_core.report.results import read_table
from mia_core.storage.store import Store

ROOT = Path(__file__).parents[1]
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium-headless-shell")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
QUIET_SECONDS = 0.5
LONGEST_SECONDS = 60.0
SLOWEST_CLICK, MOST_BYTES, SLOWEST_PAINT = 1.0, 1_000_000, 2.0
DRAWN = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
SETTLED = """() => document.querySelector('[data-testid=stApp]')?.getAttribute('data-test-script-state') === 'notRunning'
    && !document.querySelector('[data-testid=stSkeleton]')"""


class Wire:
    """What arrives in the browser, and when the last of it did."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.bytes = 0
        self.last = 0.0
        page.on("websocket", lambda socket_: socket_.on("framereceived", self._received))
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.on("Network.loadingFinished", lambda event: self._count(int(event["encodedDataLength"])))

    def _received(self, payload: str | bytes) -> None:
        self._count(len(payload))

    def _count(self, size: int) -> None:
        self.bytes += size
        self.last = time.perf_counter()

    def measured(self, act: Callable[[], object]) -> tuple[float, int]:
        """(seconds until the page has answered, bytes) of something done to it."""
        self.bytes, self.last = 0, 0.0
        begin = answered = time.perf_counter()
        act()
        while time.perf_counter() - begin < LONGEST_SECONDS:
            before = time.perf_counter()
            self.page.evaluate(DRAWN)
            now = time.perf_counter()
            # A frame that took long was drawing: the answer is not there before it is over.
            if now - before > 0.08 or not self.page.evaluate(SETTLED):
                answered = now
            answered = max(answered, self.last)
            if now - answered > QUIET_SECONDS:
                return answered - begin, self.bytes
        raise SystemExit(f"{self.page.url} did not settle within {LONGEST_SECONDS:.0f} s")


def main(users: int) -> int:
    """Prints the table; returns 1 where something is slower or larger than it should be."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        store = Store(home)
        key = write_large_audit(store, users)
        another = write_large_audit(store, 2_000, seed=1)
        found = store.find(key)
        assert found is not None
        person = read_table(found, "users", ["user", "role"]).filter(role="audited_member")["user"][0]
        store.close()
        server, url = start_app(home)
        try:
            return _report(users, url, _visits(key, another, person))
        finally:
            server.terminate()
            server.wait(10)


def _visits(key: str, another: str, person: str) -> list[tuple[str, list[tuple[str, Callable[[Page], object]]]]]:
    """(address, [(name of a click, how it is done)]) of every page that shows a finished audit."""

    def view(name: str) -> tuple[str, Callable[[Page], object]]:
        return f"view {name}", lambda page: page.get_by_test_id("stMain").get_by_text(name, exact=True).first.click()

    def press(role: str, name: str) -> Callable[[Page], object]:
        return lambda page: page.get_by_test_id("stMain").get_by_role(role, name=name).last.click()  # type: ignore[arg-type]

    def key_press(role: str, key_: str) -> Callable[[Page], object]:
        return lambda page: page.get_by_role(role).first.press(key_)  # type: ignore[arg-type]

    def fill(label: str, text: str) -> Callable[[Page], object]:
        def act(page: Page) -> None:
            box = page.get_by_role("textbox", name=label)
            box.fill(text)
            box.press("Enter")

        return act

    views = ("Attacks", "Threshold", "Signals", "Training", "Usefulness", "Record", "Overview")
    tabs = [view(name) for name in views]
    return [
        (f"results?audit={key}", tabs),
        (f"results?audit={key}&view=Threshold", [("move the threshold", key_press("slider", "ArrowRight"))]),
        (f"results?audit={key}&view=Signals", [("another model", press("radio", "base"))]),
        (
            f"users?audit={key}",
            [("next page", press("button", "Next page")), ("search an id", fill("User id contains", "77"))],
        ),
        (f"users?audit={key}&user={person}", [("next user", press("button", "Next"))]),
        (f"cohorts?audit={key}", [("one cohort more", key_press("slider", "ArrowRight")), view("Recency")]),
        (f"lookup?audit={key}&user={person}", []),
        (f"list?audit={key}", []),
        (f"map?audit={key}", [("drawn from all answers", press("radio", "All its answers"))]),
        (f"compare?audits={key},{another}", []),
        (f"report?audit={key}", []),
        ("methods", []),
        ("", []),
    ]


def _report(users: int, url: str, visits: list[tuple[str, list[tuple[str, Callable[[Page], object]]]]]) -> int:
    failures = 0
    clicks: list[float] = []
    print(f"{users:,} users, {os.cpu_count()} cores")
    print(f"{'page':34}{'what':24}{'seconds':>8}{'kB':>8}")

    def line(page: str, what: str, seconds: float, size: int, limit: float) -> None:
        nonlocal failures
        over = seconds > limit or (what != "first visit" and size > MOST_BYTES)
        failures += over
        print(f"{page:34}{what:24}{seconds:8.2f}{size / 1_000:8.0f}{'  over the limit' if over else ''}", flush=True)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = browser.new_context(viewport={"width": 1440, "height": 1000})
        # A warm server: somebody has been there before.
        for warm in (True, False):
            for address, acts in visits:
                page = context.new_page()
                wire = Wire(page)
                path = f"{url}/{address}"
                seconds, size = wire.measured(lambda page=page, path=path: page.goto(path))  # type: ignore[misc]
                name = address.partition("?")[0] or "start"
                name += "?user" if "&user=" in address and name == "users" else ""
                if page.get_by_text("fault of ours").count():
                    raise SystemExit(f"{page.url}: a fault on the first visit")
                if not warm:
                    line(name, "first visit", seconds, size, SLOWEST_PAINT)
                for what, act in acts:
                    seconds, size = wire.measured(lambda act=act, page=page: act(page))  # type: ignore[misc]
                    if page.get_by_text("fault of ours").count():
                        raise SystemExit(f"{page.url}: a fault after {what!r}")
                    if not warm:
                        clicks.append(seconds)
                        line(name, what, seconds, size, SLOWEST_CLICK)
                page.close()
        browser.close()
    print(f"clicks: median {statistics.median(clicks):.2f} s, slowest {max(clicks):.2f} s; {failures} over a limit")
    return 1 if failures else 0


def start_app(home: Path) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", f"--server.port={port}"]
    with (home / "server.log").open("ab") as log:
        environment = {**os.environ, "MIA_HOME": str(home)}
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{url}/_stcore/health", timeout=1)  # noqa: S310
            return server, url
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    server.kill()
    raise SystemExit("the app did not start")


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))
