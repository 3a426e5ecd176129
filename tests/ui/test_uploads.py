"""Data, from the upload to every page of a finished audit, in a real browser."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from mia_core.data import synthetic
from mia_core.experiment import Synthetic
from mia_core.report.results import read_result, read_table
from mia_core.storage.store import Store
from tests.ui.serving import SECONDS, Server, settled, titled

DATA = os.environ.get("MIA_REAL_DATA", "")
pytestmark = pytest.mark.browser
REAL = [
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA, reason="MIA_REAL_DATA names no folder of real data"),
]
INVENTED = "invented"
SMALL = """
[base]
width = 32
layers = 2
vocabulary = 600
[base.pretraining]
epochs = 2
learning_rate = 5e-3
[target.training]
epochs = 8
learning_rate = 5e-3
[distillation]
soft_windows = 2
"""
USUAL = (
    '[attacks]\nnames = ["loss", "confidence", "target_minus_base", "soft_difference"]\nlead = "target_minus_base"\n'
)
ITEMS = '[attacks]\nnames = ["loss", "confidence", "target_minus_base"]\nlead = "target_minus_base"\n'
CASES = {
    INVENTED: (["ratings.csv", "movies.csv"], "MovieLens", '"t5"', USUAL, 1.0),
    "ml-latest-small": (["ratings.csv", "movies.csv"], "MovieLens", '"t5"', USUAL, 0.3),
    "lastfm-2k": (["user_artists.dat", "artists.dat"], "HetRec Last.FM", '"gpt2"', USUAL, 0.2),
    "yoochoose-1-64": (["sessions.csv"], "YooChoose", '"sasrec"', ITEMS, 0.05),
}


def marks(name: str) -> list[pytest.MarkDecorator]:
    """Invented people stand in where there are no real ones; what takes longest is slow."""
    if name == INVENTED:
        return [pytest.mark.skipif(bool(DATA), reason="the same is tested on real data")]
    return REAL if name == "ml-latest-small" else [*REAL, pytest.mark.slow]


@pytest.mark.parametrize("folder", [pytest.param(name, marks=marks(name)) for name in CASES])
def test_an_upload_is_audited_and_every_page_shows_it(server: Server, page: Page, folder: str, tmp_path: Path) -> None:
    files, layout, family, attacks, share = CASES[folder]
    source = Path(DATA) / folder
    if folder == INVENTED:
        source = tmp_path
        made = synthetic.generate(Synthetic(users=150, items=80), 1)
        made.frame.rename({"user": "userId", "item": "movieId"}).write_csv(source / "ratings.csv")
        made.items.rename({"item": "movieId"}).write_csv(source / "movies.csv")
    page.goto(f"{server.url}/data")
    titled(page, "Data")
    page.locator("input[type=file]").set_input_files([str(source / name) for name in files])
    expect(page.get_by_text(f"Recognised: {layout}")).to_be_visible(timeout=60 * SECONDS)
    page.get_by_role("textbox", name="Name").fill(f"Upload of {folder}")
    page.get_by_role("button", name="Save and go on").click()
    titled(page, "Audit", seconds=60)
    key = re.search(r"data=([0-9a-f]{64})", page.url)
    assert key is not None
    page.get_by_role("tab", name="Expert").click()
    config = f'name = "{folder} as a reader would"\n[data]\nsource = "data-set"\nkey = "{key[1]}"\n'
    config += (
        f"[data.thin]\nkeep_users = {share}\n{SMALL.replace('[base]', f'[base]{chr(10)}family = {family}', 1)}{attacks}"
    )
    config += "[evaluation]\nplacebo = false\nranked_users = 20\nmap_users = 60\n"
    page.get_by_role("textbox", name="Config (TOML)").fill(config)
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("This is a valid config.")).to_be_visible()
    page.get_by_role("button", name="Launch this audit").click()
    titled(page, "Running")
    titled(page, "Results", seconds=240)
    walk(server, page)


def walk(server: Server, page: Page) -> None:
    """The main path through each page of the newest audit."""
    store = Store(server.home)
    entry = store.entries("audit")[0]
    users = read_table(entry.path, "users", ["user", "role"])
    unit = read_result(entry.path).unit.one
    person = users.filter(role="audited_member")["user"][0]
    audit = f"audit={entry.key}"
    for view in ("Attacks", "Threshold", "Signals", "Training", "Usefulness", "Record"):
        page.goto(f"{server.url}/results?{audit}&view={view}")
        titled(page, "Results")
        expect(page.get_by_text("gates passed").or_(page.get_by_text("gates failed")).first).to_be_visible()
    page.goto(f"{server.url}/users?{audit}&user={person}")
    expect(page.get_by_text("Without one interaction")).to_be_visible()
    expect(page.get_by_text(person, exact=True).first).to_be_visible()
    page.goto(f"{server.url}/lookup?{audit}")
    page.get_by_role("textbox", name=f"{unit.capitalize()} id").fill(person)
    page.get_by_role("button", name="Look up").click()
    expect(page.get_by_text("The answer")).to_be_visible()
    for path in ("cohorts", "map", "list", "report"):
        page.goto(f"{server.url}/{path}?{audit}")
        expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=30 * SECONDS)
        settled(page)
        expect(page.get_by_text("fault of ours")).to_have_count(0)
        expect(page.get_by_text("That did not work")).to_have_count(0)
    expect(page.get_by_text("How readers check it")).to_be_visible()
    page.wait_for_timeout(2 * SECONDS)
    with page.expect_download(timeout=60 * SECONDS) as download:
        page.get_by_role("button", name="Report (HTML)").click()
    assert "MemberScope" in download.value.path().read_text(encoding="utf-8")
