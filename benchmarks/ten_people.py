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
from pathlib import Path

import psutil
from large_audit import write_large_audit
from playwright.async_api import Page, async_playwright
from surface import ARGUMENTS, CHROMIUM, SETTLED, start_app

from mia_core.experiment import Runtime, load_experiment
from mia_core.jobs.queue import Queue
from mia_core.jobs.supervisor import ensure_supervisor
from mia_core.store import Store

PEOPLE, USERS = int(os.environ.get("PEOPLE", "10")), 2_000
BETWEEN_CLICKS = (8.0, 16.0)
"""Seconds that somebody looks at a page."""
ARRIVING = 3.0
"""Seconds between one person's arrival and the next one's; clicks count once all are there."""
SLOWEST, MOST_MEMORY = 2.0, 1.5 * 2**30
SHOWN = """() => {
    const main = document.querySelector('[data-testid=stMain]')
    return main.innerText + [...main.querySelectorAll('input')].map(input => input.value).join(' ')
}"""
NAMES = [f"Audit of colleague {chr(ord('A') + i)}" for i in range(PEOPLE)]
CLICKS = ("Users", "Cohorts", "Map", "Results", "Lookup", "Report")


async def settled(page: Page) -> None:
    """Waits until the page's script has ended and everything is drawn."""
    await page.wait_for_function(SETTLED, timeout=60_000)


async def person(page: Page, name: str, url: str, key: str, end: float, told: dict[str, list[float]]) -> list[str]:
    """Browses one audit until the end; returns what went wrong."""
    wrong: list[str] = []
    begun = time.monotonic()
    await asyncio.sleep(ARRIVING * NAMES.index(name))
    rng = random.Random(name)  # noqa: S311 - no secret
    await page.goto(f"{url}/results?audit={key}")
    await page.get_by_role("heading", level=1, name="Results").wait_for(timeout=60_000)
    await asyncio.sleep(max(0.0, ARRIVING * (PEOPLE + 2) - (time.monotonic() - begun)))
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
        end = time.monotonic() + seconds + ARRIVING * (PEOPLE + 2)
        parts = [person(*one, end, told) for one in zip(pages, NAMES, [url] * len(keys), keys, strict=True)]
        found = await asyncio.gather(*parts)
        await browser.close()
    return told, [line for lines in found for line in lines]


def main(seconds: float) -> int:
    """Prints what was measured; returns 1 where a limit was passed."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ["MIA_HOME"] = folder
        store = Store(home)
        keys = [write_large_audit(store, USERS, seed=i, name=name) for i, name in enumerate(NAMES)]
        store.close()
        experiment = load_experiment(Path(__file__).parents[1] / "assets" / "demo.toml")
        payload = {"experiment": experiment.model_dump(mode="json"), "runtime": Runtime(threads=1).model_dump()}
        job = Queue(home).submit("audit", "A job beside", payload)
        server, url = start_app(home)
        ensure_supervisor(home)
        process = psutil.Process(server.pid)
        try:
            told, wrong = asyncio.run(browse(url, keys, seconds))
            memory = process.memory_info().rss
        finally:
            server.terminate()
            server.wait(10)
        state = Queue(home).get(job.id).state
        log = (home / "server.log").read_text(encoding="utf-8", errors="replace")
        wrong += [line for line in log.splitlines() if "failed" in line]
        for other in psutil.process_iter(["cmdline"]):
            if folder in " ".join(other.info["cmdline"] or []) and other.pid != os.getpid():
                other.kill()
    clicks = sorted(value for values in told.values() for value in values)
    slow = clicks[int(0.95 * len(clicks))]
    for page, values in sorted(told.items()):
        print(f"{page:10}{len(values):5} clicks  median {statistics.median(values):.2f} s  slowest {max(values):.2f} s")
    print(f"{len(clicks)} clicks of {PEOPLE} people: median {statistics.median(clicks):.2f} s, 95% within {slow:.2f} s")
    print(f"server: {memory / 2**20:.0f} MB; the job beside: {state}; wrong: {len(wrong)}")
    print("\n".join(wrong[:10]))
    return int(bool(wrong) or slow > SLOWEST or memory > MOST_MEMORY)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0))
