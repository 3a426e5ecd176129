"""What a hostile visitor, or a hostile page in somebody's browser, gets from a real server: nothing."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from playwright.sync_api import Page, expect
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.uploaded_file_manager import UploadedFileRec

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
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "["):
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
        "http://[",
    ):
        assert ask(server, "/_stcore/stream", Origin=origin, **SOCKET).status == 403
        assert ask(server, UPLOAD, "PUT", b"x", Origin=origin).status == 403
        refused = ask(server, "/_stcore/health", Origin=origin)
        assert refused.status == 403
        assert {name: refused.headers[name] for name in HEADERS} == HEADERS
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
    # What comes in chunks may be longer than it says.
    chunked = {"Content-Length": "1", "Transfer-Encoding": "chunked"}
    assert ask(server, UPLOAD, "PUT", b"5\r\nhello\r\n0\r\n\r\n", **chunked).status == 411


def test_an_upload_counts_from_its_first_byte_until_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another upload while the first of a session arrives does not make the gate forget that session."""
    monkeypatch.setenv("MIA_MOST_UPLOADED_MB", "1")
    kept = MemoryUploadedFileManager("/_stcore/upload_file")
    monkeypatch.setattr(gate.runtime, "get_instance", lambda: SimpleNamespace(uploaded_file_mgr=kept))

    async def upload(session: str, size: int, arrived: asyncio.Event | None = None) -> int:
        """The answer's status; the upload is on its way until it has arrived."""
        answers: list[int] = []

        async def receive_file(scope: Scope, receive: Receive, send: Send) -> None:
            if arrived is not None:
                await arrived.wait()
            kept.add_file(session, UploadedFileRec(f"file-{size}", "x.csv", "text/csv", bytes(size)))
            await PlainTextResponse("", 204)(scope, receive, send)

        async def send(message: Message) -> None:
            answers.extend([message["status"]] if "status" in message else [])

        async def receive() -> Message:
            return {"type": "http.request", "body": b""}

        inner.app = receive_file
        headers = [(b"host", b"localhost"), (b"content-length", str(size).encode())]
        path = f"/_stcore/upload_file/{session}/file"
        await inner({"type": "http", "method": "PUT", "path": path, "headers": headers}, receive, send)
        return answers[0]

    async def one_after_another() -> list[int]:
        arrived = asyncio.Event()
        first = asyncio.create_task(upload("first", 700_000, arrived))
        await asyncio.sleep(0)
        statuses = [await upload("second", 500_000), await upload("second", 100_000)]
        arrived.set()
        statuses += [await first, await upload("second", 500_000)]
        kept.remove_session_files("first")
        return [*statuses, await upload("second", 500_000)]

    async def nothing(scope: Scope, receive: Receive, send: Send) -> None: ...

    inner = gate.Gate(nothing)
    assert asyncio.run(one_after_another()) == [413, 204, 204, 413, 204]


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
