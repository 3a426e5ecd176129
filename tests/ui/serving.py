"""The app as people use it: a real server on a port and with a home of its own, for real browsers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
from playwright.sync_api import Page, expect

ROOT = Path(__file__).parents[2]
CHROMIUM = "/usr/bin/chromium-headless-shell"
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

    def __init__(self, home: Path, *, start: bool = True) -> None:
        self.home = home
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        if start:
            self.start()

    def start(self, *options: str, script: str = "app.py") -> None:
        command = [sys.executable, "-m", "streamlit", "run", script, f"--server.port={self.port}", *options]
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

    def stop(self) -> None:
        """Ends the server and whatever works for its home."""
        self.kill()
        for process in psutil.process_iter(["cmdline"]):
            if any(part.startswith(str(self.home)) for part in process.info["cmdline"] or []):
                process.kill()


def settled(page: Page) -> None:
    """Waits until the page is drawn to its end. (The content-security policy forbids what `Page.wait_for_function` does.)"""
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for(timeout=30 * SECONDS)


def titled(page: Page, title: str, seconds: int = 20) -> None:
    """Waits for a page to be there, whole and without a fault."""
    expect(page.get_by_role("heading", level=1, name=title)).to_be_visible(timeout=seconds * SECONDS)
    expect(page.get_by_text("fault of ours")).to_have_count(0)
