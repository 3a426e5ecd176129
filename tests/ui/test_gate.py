"""What a hostile visitor, or a hostile page in somebody's browser, gets from a real server: nothing."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from mia_core import example
from mia_core.ui import gate
from mia_core.ui.gate import HEADERS
from tests.ui.failing_page import PERSON
from tests.ui.serving import Server, settled, titled

pytestmark = pytest.mark.browser
ADDRESSES = ("/", "/results?audit=x", "/_stcore/health", "/_stcore/host-config", "/_stcore/metrics", "/media/x.pdf")
SOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
UPLOAD = "/_stcore/upload_file/session/file"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app, where nobody may upload more than a megabyte."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MIA_MOST_UPLOADED_MB", "1")
        running = Server(tmp_path_factory.mktemp("home"))
    yield running
    running.stop()


def ask(
    server: Server, address: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> http.client.HTTPResponse:
    """One request; a header named Host replaces the right one."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, address, body, headers)
    answer = connection.getresponse()
    answer.text = b"" if answer.status == 101 else answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


@pytest.mark.parametrize("base", ["", "audits", "static"])
def test_letters_and_icons_belong_to_nobody_and_files_do_wherever_the_app_lives(
    base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamlit.get_option", lambda name: base)
    prefix = f"/{base}" if base else ""
    assert not gate.is_of_somebody(f"{prefix}/static/media/letters.woff2")
    for path in ("/media/report.pdf", "/_stcore/upload_file/a/b", "/_stcore/metrics", "/elsewhere/static/media/a.pdf"):
        assert gate.is_of_somebody(prefix + path)


def test_every_answer_has_the_same_protective_headers(server: Server) -> None:
    answers = [ask(server, address) for address in ADDRESSES]
    answers += [ask(server, "/", Host="evil.example"), ask(server, UPLOAD, "PUT", b"x"), ask(server, "/no/such/page")]
    for answer in answers:
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert "Access-Control-Allow-Origin" not in answer.headers or answer.headers[
            "Access-Control-Allow-Origin"
        ].startswith("http://127.0.0.1")
    assert "unsafe-eval'" not in HEADERS["Content-Security-Policy"].replace("'wasm-unsafe-eval'", "")
    assert "script-src 'self' 'sha256-" in HEADERS["Content-Security-Policy"]
    assert ask(server, "/media/x.pdf").headers["Cache-Control"] == "no-store"


def test_under_a_foreign_name_nothing_is_answered(server: Server) -> None:
    """DNS rebinding: a page's own name is made to lead to this machine."""
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost@evil.example"):
        assert {ask(server, address, Host=f"{host}:{server.port}").status for address in ADDRESSES} == {403}
        assert ask(server, "/_stcore/stream", Host=host, Origin=f"http://{host}", **SOCKET).status == 403
    assert {ask(server, "/", Host=f"{name}:{server.port}").status for name in ("localhost", "127.0.0.1", "[::1]")} == {
        200
    }


def test_no_page_elsewhere_can_talk_to_the_app(server: Server) -> None:
    """Another program's page on the same machine is elsewhere, too."""
    for origin in (
        "http://evil.example",
        "http://localhost:1",
        "http://127.0.0.1:1",
        "null",
        "https://a.streamlit.app",
    ):
        assert ask(server, "/_stcore/stream", Origin=origin, **SOCKET).status == 403
        assert ask(server, UPLOAD, "PUT", b"x", Origin=origin).status == 403
        assert ask(server, "/_stcore/health", Origin=origin).status == 403
    assert ask(server, "/_stcore/stream", Origin=server.url, **SOCKET).status == 101


def test_a_form_of_another_site_uploads_nothing(server: Server) -> None:
    refused = ask(server, UPLOAD, "PUT", b"x")
    assert refused.status == 403
    assert b"XSRF" in refused.text  # type: ignore[attr-defined]


def test_nothing_but_the_browser_drives_the_app(server: Server) -> None:
    assert ask(server, "/_stcore/agent/interact", "POST", b"{}", **{"Content-Type": "application/json"}).status >= 400
    assert b'"allowedOrigins":[]' in ask(server, "/_stcore/host-config").text.replace(b" ", b"")  # type: ignore[attr-defined]


def test_uploads_beyond_an_owners_share_are_refused_with_the_reason(server: Server) -> None:
    refused = ask(server, UPLOAD, "PUT", bytes(2_000_000))
    assert refused.status == 413
    assert b"MIA_MOST_UPLOADED_MB" in refused.text  # type: ignore[attr-defined]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("PUT", UPLOAD, iter([b"of unknown length"]), encode_chunked=True)
    assert connection.getresponse().status == 411
    connection.close()


def test_main_pages_work_under_the_policy_and_a_script_put_into_one_does_not_run(server: Server, page: Page) -> None:
    told = "document.addEventListener('securitypolicyviolation', e => (window.broken ??= []).push(e.violatedDirective))"
    page.add_init_script(told)
    (audit, *_) = example.audit_keys()
    for name, title in (("audit", "Audit"), ("results", "Results")):
        page.goto(f"{server.url}/{name}?audit={audit}")
        titled(page, title)
        settled(page)
        assert page.evaluate("window.broken ?? []") == []
        if name == "results":
            expect(page.locator("canvas, svg.marks").first).to_be_visible()
    page.evaluate(
        "() => { const s = document.createElement('script'); s.text = 'window.ran = 1'; document.body.append(s) }"
    )
    assert page.evaluate("window.ran ?? 0") == 0
    assert "script-src-elem" in page.evaluate("window.broken")


def test_the_log_says_where_a_fault_was_and_nothing_of_whom_it_was_about(page: Page, tmp_path: Path) -> None:
    failing = Server(tmp_path, start=False)
    failing.start(script="tests/ui/failing_app.py")
    try:
        page.goto(f"{failing.url}/?user={PERSON}")
        expect(page.get_by_role("heading", name="Failing")).to_be_visible()
        for button in ("A click fails", "A part fails", "The page fails"):
            page.get_by_role("button", name=button).click()
            expect(page.get_by_text("This page ran into a fault of ours").first).to_be_visible()
            expect(page.get_by_text(PERSON)).to_have_count(0)
            page.goto(f"{failing.url}/?user={PERSON}")
        page.get_by_role("button", name="A file fails").click()
        settled(page)
        page.wait_for_timeout(1_000)
    finally:
        failing.stop()
    log = (tmp_path / "server.log").read_text()
    assert "ValueError at failing_page.py:" in log
    assert PERSON not in log
