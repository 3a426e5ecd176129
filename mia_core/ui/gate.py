"""What every request passes before Streamlit sees it: who may be asked under which name, from which page, and for what.

Streamlit lets strangers in as far as the page that asks them to sign in, and it hands out and takes files by address alone:
the gate asks there, too, whether somebody signed in.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.web.server.server_util import is_allowed_origin
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME
from streamlit.web.server.starlette.starlette_websocket import _get_signed_cookie_with_chunks, is_host_allowed

from mia_core.errors import ConfigError, LimitReached
from mia_core.limits import check_uploads
from mia_core.ui.sign_in import open_to_strangers, owner_of, providers


def _inline_scripts() -> str:
    """The scripts that stand in Streamlit's own page, as a content-security policy names them: no others run."""
    page = (Path(st.__file__).parent / "static" / "index.html").read_text(encoding="utf-8")
    digests = (
        hashlib.sha256(text.encode()).digest() for text in re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    )
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Streamlit's front end puts styles into the page, and loads what components bring along from blobs of its own.
    "Content-Security-Policy": (
        f"default-src 'self'; script-src 'self' {_inline_scripts()} 'wasm-unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; media-src 'self'; worker-src 'self' blob:; "
        "frame-src 'self'; manifest-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'; object-src 'none'"
    ),
}
FILES = re.compile(r"/(media|_stcore/upload_file|_stcore/metrics)(/|$)")
"""Addresses that hold, take or count what belongs to somebody, but for one: see `is_of_somebody`."""
UPLOAD = re.compile(r"/_stcore/upload_file/([^/]+)/")


class Gate:
    """Turns away whoever has no business here, and adds the same protective headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.arriving: Counter[str] = Counter()
        """Bytes of uploads on their way, by owner."""
        self.sessions: defaultdict[str, set[str]] = defaultdict(set)
        """Sessions whose uploads arrived, by owner."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the call on, or answers why not."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        files = is_of_somebody(scope["path"])

        async def send_with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if files:
                    headers["Cache-Control"] = "no-store"
            await send(message)

        refusal = refused(request, files)
        if refusal:
            await _refuse(scope, receive, send_with_headers, 403, refusal)
        elif scope.get("method") == "PUT" and (upload := UPLOAD.search(scope["path"])):
            await self._take(scope, receive, send_with_headers, request, upload[1])
        else:
            await self.app(scope, receive, send_with_headers)

    async def _take(self, scope: Scope, receive: Receive, send: Send, request: HTTPConnection, session: str) -> None:
        """Passes an upload on if there is room for it in its owner's share of the memory."""
        length = request.headers.get("content-length", "")
        # What comes in chunks is as long as it likes, whatever it says beside them.
        if "transfer-encoding" in request.headers or not (length.isascii() and length.isdigit()):
            await _refuse(scope, receive, send, 411, "An upload must say how long it is, and come in one piece.")
            return
        person = signed_in(request)
        owner, size = owner_of(person) if person else "", int(length)
        try:
            check_uploads(self._held(owner) + self.arriving[owner], size)
        except LimitReached as error:
            await _refuse(scope, receive, send, 413, str(error))
            return
        self.arriving[owner] += size
        try:
            await self.app(scope, receive, send)
        finally:
            # Only now does Streamlit know of a session's first upload; added before, `_held` might have dropped it meanwhile.
            self.sessions[owner].add(session)
            self.arriving[owner] -= size

    def _held(self, owner: str) -> int:
        """Bytes of this owner's uploads that no page has written down yet."""
        manager = runtime.get_instance().uploaded_file_mgr
        if not isinstance(manager, MemoryUploadedFileManager):
            return 0
        self.sessions[owner].intersection_update(manager.file_storage)
        files = [file for session in self.sessions[owner] for file in list(manager.file_storage[session].values())]
        return sum(len(file.data) for file in files)


def refused(request: HTTPConnection, files: bool) -> str:
    """Why a request is turned away; empty: it is not.

    Args:
        files: whether it asks for what belongs to somebody.
    """
    host, origin = request.headers.get("host"), request.headers.get("origin")
    # A page elsewhere whose name was made to lead here (DNS rebinding) still asks under its own name.
    if not is_host_allowed(host):
        return "This server does not answer to that name. Whoever runs it lists its names in server.allowedHosts."
    # Streamlit would take any page of this machine, and ask the network for its outer address first.
    if origin is not None and origin.partition("://")[2] != host and not is_allowed_origin(origin):
        return (
            "This server does not answer to pages of others. Whoever runs it lists them in server.corsAllowedOrigins."
        )
    if not files:
        return ""
    try:
        if open_to_strangers():
            return "This server can be reached from other machines, and nobody has to sign in: it hands out and takes nothing."
        return "Sign in first." if providers() and signed_in(request) is None else ""
    except ConfigError as error:
        return str(error)


def signed_in(request: HTTPConnection) -> Mapping[str, Any] | None:
    """Whom a request's cookie vouches for; None: nobody, or it was not sealed here."""
    if not providers():
        return None
    content = _get_signed_cookie_with_chunks(request.cookies, USER_COOKIE_NAME)
    person = json.loads(content) if content else {}
    return person if person.get("is_logged_in") is True else None


def is_of_somebody(path: str) -> bool:
    """Whether an address holds, takes or counts what belongs to somebody."""
    # Streamlit's own letters and icons lie below static/media, and whoever has not signed in yet reads them, too.
    own = f"/{st.get_option('server.baseUrlPath').strip('/')}/static/".replace("//", "/")
    return FILES.search(path) is not None and not path.startswith(own)


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, why: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": why})
    else:
        await PlainTextResponse(why, status_code=status)(scope, receive, send)
