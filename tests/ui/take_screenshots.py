"""Makes the pictures of the README anew, from the example audits: `PYTHONPATH=. python tests/ui/take_screenshots.py [FOLDER]`.

With a folder, every page is also taken at 1024 and 420 pixels, light and dark, for a look by eye.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from mia_core import example
from mia_core.report.results import read_table
from mia_core.storage.store import Store
from mia_core.ui.frame import PAGES, ROOT
from tests.ui.serving import ARGUMENTS, CHROMIUM, Server, settled

README = ROOT / "assets" / "screenshots"
SHOWN = (1440, 1000)
SMALLER = 0.6
EVERY = [(1440, "light"), (1440, "dark"), (1024, "light"), (1024, "dark"), (420, "light"), (420, "dark")]


def addresses(store: Store) -> dict[str, str]:
    """Picture -> address, a user's own page among them."""
    first, second = example.audit_keys()[:2]
    users = read_table(store.find(first) or Path(), "users", ["user", "role", "score.distillation"])
    person = users.filter(role="audited_member").sort("score.distillation", descending=True)["user"][0]
    found = {name: f"{'' if name == 'start' else name}?audit={first}" for name in PAGES}
    found["compare"] = f"compare?audits={first},{second}"
    found["lookup"] += f"&user={person}"
    return {**found, "user": f"users?audit={first}&user={person}", "threshold": f"results?audit={first}&view=Threshold"}


def take(browser: Browser, url: str, width: int, scheme: str, *, whole: bool) -> Image.Image:
    """A page once it has been drawn; all of it, or what a first look shows."""
    page = browser.new_page(viewport={"width": width, "height": SHOWN[1]}, color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(url)
    page.get_by_role("heading", level=1).wait_for(timeout=60_000)
    settled(page)
    page.wait_for_timeout(4_000)
    if whole:
        height = page.evaluate(
            "Math.max(...[...document.querySelectorAll('[data-testid=stMain]')].map(e => e.scrollHeight))"
        )
        page.set_viewport_size({"width": width, "height": min(6_000, int(height) + 40)})
        page.wait_for_timeout(2_500)
    picture = Image.open(io.BytesIO(page.screenshot()))
    page.close()
    return picture


def main(folder: Path | None) -> None:
    """Takes them."""
    with tempfile.TemporaryDirectory() as temporary:
        store = Store(Path(temporary))
        example.install(store)
        server = Server(Path(temporary))
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
                for name, address in addresses(store).items():
                    if folder is None:
                        picture = take(browser, f"{server.url}/{address}", SHOWN[0], "light", whole=False)
                        small = picture.resize(
                            (int(SMALLER * picture.width), int(SMALLER * picture.height)), Image.Resampling.LANCZOS
                        )
                        small.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE).save(
                            README / f"{name}.png", optimize=True
                        )
                        continue
                    for width, scheme in EVERY:
                        picture = take(browser, f"{server.url}/{address}", width, scheme, whole=True)
                        picture.save(folder / f"{name}_{width}_{scheme}.png")
                browser.close()
        finally:
            server.stop()


if __name__ == "__main__":
    README.mkdir(exist_ok=True)
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
