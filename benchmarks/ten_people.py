"""Ten people at once: each browses an audit of their own in a browser while a job runs.

    python benchmarks/ten_people.py [SECONDS]

Everybody looks at a page for 8 to 16 seconds before the next click, for a minute unless told otherwise; browsers, server and
job share the machine. Counted are the seconds until a click is answered, faults, mix-ups (somebody else's audit on the page) and
the memory of the server.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from large_audit import write_large_audit
from playwright.async_api import Page, async_playwright
from surface import ARGUMENTS, CHROMIUM, ROOT, SETTLED, start_app

from mia_core.experiment import Runtime, parse_experiment
from mia_core.jobs.queue import Queue
from mia_core.jobs.supervisor import ensure_supervisor
from mia_core.storage.store import Store

PEOPLE, USERS = int(os.environ.get("PEOPLE", "10")), 2_000
BETWEEN_CLICKS = tuple(float(value) for value in os.environ.get("BETWEEN_CLICKS", "8 16").split())
"""Seconds that somebody looks at a page: at least, at most."""
ARRIVING = 3.0
"""Seconds between one person's arrival and the next one's; clicks count once all are there."""
WATCH_SECONDS = 5.0
SLOWEST, MOST_MEMORY = 2.0, 1.5 * 2**30
SHOWN = """() => {
    const main = document.querySelector('[data-testid=stMain]')
    return main.innerText + [...main.querySelectorAll('input')].map(input => input.value).join(' ')
}"""
NAMES = [f"Audit of colleague {chr(ord('A') + i)}" for i in range(PEOPLE)]
CLICKS = ("Users", "Cohorts", "Map", "Results", "Lookup", "Report")


async def settled(page: Page) -> None:
    """Waits until the page's script has ended and everything is drawn."""
    # The content-security policy forbids what `wait_for_function` does.
    async with asyncio.timeout(60):
        while not await page.evaluate(SETTLED):
            await asyncio.sleep(0.05)


async def person(
    page: Page, name: str, url: str, key: str, begin: float, end: float, told: dict[str, list[float]]
) -> list[str]:
    """Browses one audit until the end; returns what went wrong."""
    wrong: list[str] = []
    await asyncio.sleep(ARRIVING * NAMES.index(name))
    rng = random.Random(name)  # noqa: S311 - no secret
    await page.goto(f"{url}/results?audit={key}")
    await page.get_by_role("heading", level=1, name="Results").wait_for(timeout=60_000)
    await asyncio.sleep(max(0.0, begin - time.monotonic()))
    while time.monotonic() < end:
        await asyncio.sleep(rng.uniform(*BETWEEN_CLICKS))
        where = rng.choice(CLICKS)
        began = time.perf_counter()
        # A link of the navigation loses the address, so the way back into one's own audit is part of the click.
        await page.evaluate(
            "address => { history.pushState({}, '', address); dispatchEvent(new PopStateEvent('popstate')) }",
            f"/{where.lower()}?audit={key}",
        )
        heading = {"Lookup": "Was this person's data used?"}.get(where, where)
        await page.get_by_role("heading", level=1, name=heading).wait_for(timeout=60_000)
        await settled(page)
        told.setdefault(where, []).append(time.perf_counter() - began)
        text = await page.evaluate(SHOWN)
        if "fault of ours" in text:
            wrong.append(f"{name}: a fault on {where}")
        if any(other in text for other in NAMES if other != name):
            wrong.append(f"{name}: somebody else's audit on {where}")
        if name not in text:
            wrong.append(f"{name}: not their audit on {where}")
    return wrong


async def browse(url: str, keys: list[str], seconds: float) -> tuple[dict[str, list[float]], list[str]]:
    """(seconds of each click by page, what went wrong)."""
    told: dict[str, list[float]] = {}
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        pages = [await (await browser.new_context()).new_page() for _ in keys]
        begin = time.monotonic() + ARRIVING * (len(keys) + 2)
        parts = [
            person(page, name, url, key, begin, begin + seconds, told)
            for page, name, key in zip(pages, NAMES, keys, strict=False)
        ]
        found = await asyncio.gather(*parts)
        await browser.close()
    return told, [line for lines in found for line in lines]


async def browse_beside(
    url: str, keys: list[str], seconds: float, watch: Callable[[], None]
) -> tuple[dict[str, list[float]], list[str]]:
    """What `browse` tells; meanwhile something is done every few seconds."""

    async def watching() -> None:
        while True:
            await asyncio.to_thread(watch)
            await asyncio.sleep(WATCH_SECONDS)

    beside = asyncio.create_task(watching())
    try:
        return await browse(url, keys, seconds)
    finally:
        beside.cancel()


class Jobs:
    """Jobs that come and go: there is always one; every third is cancelled on its way."""

    def __init__(self, home: Path, more: bool) -> None:
        self.home, self.more, self.queue = home, more, Queue(home)
        self.started: list[str] = []
        self.asked: set[str] = set()

    def look(self) -> None:
        """Starts the next job where none is active."""
        active = self.queue.active()
        if active and len(self.started) % 3 == 0 and active[0].fraction > 0.3:
            self.asked.add(active[0].id)
            self.queue.cancel(active[0].id)
        if not active and (self.more or not self.started):
            document = tomllib.loads((ROOT / "assets" / "demo.toml").read_text(encoding="utf-8"))
            experiment = parse_experiment({**document, "seed": 1 + len(self.started)}).model_dump(mode="json")
            payload = {"experiment": experiment, "runtime": Runtime(threads=1).model_dump(mode="json")}
            self.started.append(self.queue.submit("audit", "A job beside", payload).id)
        ensure_supervisor(self.home)

    def wrong(self) -> list[str]:
        """Jobs that ended in another way than they should have."""
        states = {job_id: self.queue.get(job_id).state for job_id in self.started}
        expected = {"finished", "running", "queued"}
        return [f"a job {s}" for job_id, s in states.items() if s not in expected and job_id not in self.asked]


@dataclass(frozen=True)
class Measured:
    """What ten people met."""

    clicks: dict[str, list[float]]
    """Seconds until each was answered, by page."""
    wrong: list[str]
    memory: list[float]
    """Bytes of the server, every few seconds."""
    jobs: int

    @property
    def slow(self) -> float:
        """Seconds within which 95 of 100 clicks are answered."""
        found = sorted(value for values in self.clicks.values() for value in values)
        return found[int(0.95 * len(found))]


def measured(home: Path, seconds: float, people: int = PEOPLE, *, jobs_come_and_go: bool = False) -> Measured:
    """Starts the app on audits of everybody's own and lets them browse.

    Args:
        jobs_come_and_go: else there is one job.
    """
    store = Store(home)
    keys = [write_large_audit(store, USERS, seed=i, name=name) for i, name in enumerate(NAMES[:people])]
    store.close()
    jobs = Jobs(home, jobs_come_and_go)
    jobs.look()
    server, url = start_app(home)
    process = psutil.Process(server.pid)
    memory: list[float] = []

    def watch() -> None:
        memory.append(float(process.memory_info().rss))
        jobs.look()

    try:
        clicks, wrong = asyncio.run(browse_beside(url, keys, seconds, watch))
        wrong += jobs.wrong()
    finally:
        server.terminate()
        server.wait(10)
        for other in psutil.process_iter(["cmdline"]):
            if str(home) in " ".join(other.info["cmdline"] or []) and other.pid != os.getpid():
                other.kill()
    log = (home / "server.log").read_text(encoding="utf-8", errors="replace")
    wrong += [line for line in log.splitlines() if "failed" in line]
    return Measured(clicks, wrong, memory, len(jobs.started))


def main(seconds: float) -> int:
    """Prints what was measured; returns 1 where a limit was passed."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MIA_HOME"] = folder
        found = measured(Path(folder), seconds)
    clicks = [value for values in found.clicks.values() for value in values]
    for page, values in sorted(found.clicks.items()):
        print(f"{page:10}{len(values):5} clicks  median {statistics.median(values):.2f} s  slowest {max(values):.2f} s")
    median = statistics.median(clicks)
    print(f"{len(clicks)} clicks of {PEOPLE} people: median {median:.2f} s, 95% within {found.slow:.2f} s")
    print(f"server: {max(found.memory) / 2**20:.0f} MB; wrong: {len(found.wrong)}")
    print("\n".join(found.wrong[:10]))
    return int(bool(found.wrong) or found.slow > SLOWEST or max(found.memory) > MOST_MEMORY)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0))
