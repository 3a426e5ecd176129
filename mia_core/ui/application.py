"""The web application around the router: security headers, and a supervisor for background jobs."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import streamlit as st
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mia_core.errors import MemberScopeError
from mia_core.jobs.queue import Queue
from mia_core.jobs.supervisor import ensure_supervisor
from mia_core.seal import SealingKey
from mia_core.store import home_folder
from mia_core.ui.sign_in import homes

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    # Streamlit's front end needs inline styles and evaluated chart expressions; nothing may come from elsewhere.
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' ws: wss: data: blob:; "
        "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; frame-ancestors 'none'; form-action 'self'"
    ),
}


class SecurityHeaders:
    """Adds the same protective headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the call on; the headers are set where the answer begins."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        await self.app(scope, receive, send_with_headers)


@contextlib.asynccontextmanager
async def with_supervisor(app: st.App) -> AsyncIterator[None]:
    """Jobs that a crash or a reboot left behind go on as soon as the app is up."""
    try:
        # Made at the first start: its public half can be handed out before there is a report.
        SealingKey(home_folder())
        for home in homes():
            if Queue(home).active():
                ensure_supervisor(home)
    except MemberScopeError as error:
        logging.getLogger(__name__).warning("%s", error)
    yield


MIDDLEWARE = [Middleware(SecurityHeaders)]
ROUTER = Path(__file__).with_name("main.py")
