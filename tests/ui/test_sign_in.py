"""Signing in: with a provider of the test's own, a real server and a real browser."""

from __future__ import annotations

import hashlib
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from mia_core import example
from mia_core.data import library, synthetic
from mia_core.experiment import Synthetic
from mia_core.jobs.queue import Queue
from mia_core.report.results import read_table
from mia_core.storage.integrity import MANIFEST
from mia_core.storage.store import Store
from mia_core.ui.frame import PAGES
from mia_core.ui.sign_in import owner_of
from tests.ui.identity_provider import IdentityProvider
from tests.ui.serving import SECONDS, Server, settled, titled

pytestmark = pytest.mark.browser
OWN = "Nobody else's business"


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
    refused: list[str] = []
    page.on("response", lambda response: refused.append(response.url) if response.status == 403 else None)
    for path in PAGES:
        page.goto(f"{guarded.url}/{'' if path == 'start' else path}")
        expect(page.get_by_role("button", name="Sign in with your organisation")).to_be_visible()
        expect(page.get_by_role("heading", level=1)).to_have_text("MemberScope")
        expect(page.get_by_test_id("stSidebarNav")).to_have_count(0)
    # What the way in is drawn with, its letters and icons among it, belongs to nobody.
    assert not refused


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


def test_an_address_of_one_person_opens_nothing_of_theirs_to_another(
    guarded: Server, browser: Browser, provider: IdentityProvider
) -> None:
    """Whoever gets hold of a colleague's addresses finds what a stranger to the store would find."""
    first, second = (browser.new_context().new_page() for _ in range(2))
    for page, name in ((first, "Edith"), (second, "Rosa")):
        page.set_default_timeout(20 * SECONDS)
        page.goto(guarded.url)
        sign_in(page, name)
    subject = hashlib.sha256(b"Edith").hexdigest()
    home = guarded.home / "owners" / owner_of({"iss": provider.issuer, "sub": subject})
    assert home.is_dir()
    store, audit = Store(home), "ab" * 32
    shipped = store.find(example.install(store)) or Path()
    without = shutil.ignore_patterns(MANIFEST)
    store.build(
        audit, "audit", lambda folder: shutil.copytree(shipped, folder, dirs_exist_ok=True, ignore=without), name=OWN
    )
    person = read_table(shipped, "users", ["user"])["user"][0]
    data = library.save(store, synthetic.generate(Synthetic(users=30, items=20), 1), OWN)
    job = Queue(home).submit("audit", OWN, {"experiment": {"seed": "none"}}).id
    upload = home / "uploads" / ("a" * 32)
    upload.mkdir(parents=True)
    (upload / "edith.csv").write_text(f"user,item\n{OWN},x\n")
    addresses = {
        f"results?audit={audit}": "Results",
        f"lookup?audit={audit}&user={person}": "data used?",
        f"report?audit={audit}": "Report",
        f"audit?data={data}": "Audit",
        f"data?upload={upload.name}": "Data",
        f"running?job={job}": "Running",
    }
    for address, title in addresses.items():
        second.goto(f"{guarded.url}/{address}")
        titled(second, title)
        settled(second)
        shown = second.content()
        assert OWN not in shown, address
        assert "edith.csv" not in shown, address
        assert f">{person}<" not in shown, address
    # A file that is offered to somebody is given to nobody who did not sign in.
    first.goto(f"{guarded.url}/lookup?audit={audit}&user={person}")
    with first.expect_download(timeout=60 * SECONDS) as letter:
        first.get_by_role("button", name="Letter (text, to be edited)").click()
    assert person in letter.value.path().read_text()
    assert first.request.get(letter.value.url).status == 200
    stranger = browser.new_context()
    for address in (letter.value.url, f"{guarded.url}/_stcore/metrics"):
        assert stranger.request.get(address).status == 403
    assert stranger.request.put(f"{guarded.url}/_stcore/upload_file/a/b", data=b"x").text() == "Sign in first."
    # The same addresses lead their owner to what they name.
    first.goto(f"{guarded.url}/results?audit={audit}")
    expect(first.get_by_text("Given one member and one held-out user")).to_be_visible()
    first.goto(f"{guarded.url}/running?job={job}")
    expect(first.get_by_role("button", name="Cancel")).to_be_visible()
    Queue(home).cancel(job)


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
        for address, ask in (
            ("/_stcore/metrics", page.request.get),
            ("/media/x.pdf", page.request.get),
            ("/_stcore/upload_file/a/b", page.request.put),
        ):
            refused = ask(f"{open_to_all.url}{address}")
            assert (refused.status, "nobody has to sign in" in refused.text()) == (403, True)
    finally:
        open_to_all.stop()
    monkeypatch.setenv("MIA_BEHIND_A_GATE", "1")
    open_to_all.start("--server.address=0.0.0.0")
    try:
        with urllib.request.urlopen(f"{open_to_all.url}/_stcore/health") as answer:  # noqa: S310
            assert answer.status == 200
        assert page.request.get(f"{open_to_all.url}/_stcore/metrics").status == 200
        page.goto(open_to_all.url)
        expect(page.get_by_test_id("stSidebarNav")).to_be_visible()
    finally:
        open_to_all.stop()
