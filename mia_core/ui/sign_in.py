"""Who is there: nobody in particular on one's own machine, or people whom an identity provider vouches for.

People sign in by OpenID Connect where Streamlit's secrets hold a section ``[auth]``. Each of them has a home folder of their
own, so that nothing of one is ever within reach of another: not their data, audits and jobs, and not what is cached of them.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.errors import StreamlitSecretNotFoundError

from mia_core.errors import ConfigError, StoreError
from mia_core.storage import journal
from mia_core.storage.disk import explained
from mia_core.storage.store import OWNERS, home_folder
from mia_core.ui.faults import show_error

BEHIND_A_GATE = "MIA_BEHIND_A_GATE"
"""Set to 1 where something before this server, such as a proxy, lets only the right people in."""
SHORTEST_SECRET = 32
"""Characters of the secret that signs cookies."""


def providers() -> dict[str, str]:
    """Identity providers by the name that `st.login` takes, each with what to call it; none: nobody signs in.

    Raises:
        ConfigError: there are secrets that cannot be read, or the one that signs cookies can be guessed.
    """
    try:
        settings: Mapping[str, Any] = st.secrets["auth"]
    except KeyError:
        return {}
    except StreamlitSecretNotFoundError:
        unread = [path for path in st.get_option("secrets.files") if Path(path).exists()]
        if unread:
            # Whoever wrote them may have wanted people to sign in.
            raise ConfigError(
                f"{unread[0]!r} cannot be read, so nobody is let in: it must be TOML with its texts in quotes"
            ) from None
        return {}
    if len(str(settings.get("cookie_secret", ""))) < SHORTEST_SECRET:
        raise ConfigError(
            f"auth.cookie_secret in the secrets is shorter than {SHORTEST_SECRET} characters, and who guesses it is anybody they "
            "like, so nobody is let in; make one with: python -c 'import secrets; print(secrets.token_hex(32))'"
        )
    named = {name: name.capitalize() for name, value in settings.items() if isinstance(value, Mapping)}
    named = {name: title for name, title in named.items() if "client_id" in settings[name]}
    return named or {"": "your organisation"}


def open_to_strangers() -> bool:
    """Whether other machines reach this server, and neither a sign-in nor a gate before it stands in their way.

    Raises:
        ConfigError: as `providers`.
    """
    address = str(st.get_option("server.address") or "")
    return not (providers() or _is_loopback(address) or os.environ.get(BEHIND_A_GATE) == "1")


def home() -> Path:
    """The home folder of whoever looks at this page.

    Raises:
        StoreError: it is new, and the disk cannot be written.
    """
    if not providers():
        return home_folder()
    folder = home_folder() / OWNERS / owner_of(st.user.to_dict())
    with explained(home_folder()):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def owner_of(person: Mapping[str, Any]) -> str:
    """A name for the folder of a person who signed in; the provider and its number for them, never their name."""
    return hashlib.sha256(f"{person['iss']}\n{person['sub']}".encode()).hexdigest()[:32]


def let_in() -> None:
    """Shows the way in, and nothing else, to whoever has not signed in where people have to."""
    try:
        offered = providers()
    except ConfigError as error:
        st.title("MemberScope")
        st.error("The sign-in of this server is not set up.", icon=":material/lock:")
        st.text(str(error))
        st.stop()
    if not offered:
        if open_to_strangers():
            _refuse_strangers()
    elif not st.user.is_logged_in:
        _ask(offered)
        st.stop()
    else:
        _show_who()


def _ask(offered: Mapping[str, str]) -> None:
    st.title("MemberScope")
    st.markdown("Was a recommender trained on a person's data? Sign in to run audits and to look at yours.")
    for name, title in offered.items():
        st.button(
            f"Sign in with {title}",
            key=f"sign_in_{name}",
            type="primary",
            icon=":material/login:",
            on_click=st.login,
            args=(name,) if name else (),
        )
    st.caption("Your provider says who you are. What you upload and what you find is yours alone here.")


def _show_who() -> None:
    if not st.session_state.get("came_in"):
        try:
            journal.note(home(), "session opened")
            st.session_state["came_in"] = True
        except StoreError as error:
            # Nothing is asked of the log here: what was found before is shown on a full disk, too.
            show_error(error)
    with st.sidebar:
        # A name comes from outside: shown as text, never as Markdown.
        st.text(str(st.user.get("name") or st.user.get("email") or "Signed in"))
        st.button("Sign out", key="sign_out", icon=":material/logout:", on_click=st.logout)


def _refuse_strangers() -> None:
    """Without signing in, only this machine is served."""
    st.title("MemberScope")
    st.error("This server can be reached from other machines, and nobody has to sign in.", icon=":material/lock:")
    st.markdown(
        "Personal data would be open to whoever finds the address. Do one of these and start it again:\n"
        "- serve this machine alone: `--server.address=127.0.0.1`\n"
        "- let people sign in: a section `[auth]` in `.streamlit/secrets.toml` (see the README)\n"
        f"- set `{BEHIND_A_GATE}=1` if a proxy before this server already lets only the right people in"
    )
    st.stop()


def _is_loopback(address: str) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False
