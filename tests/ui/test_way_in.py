"""A slip in the secrets of a server must not open everybody's data to everybody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit import config
from streamlit.runtime.secrets import Secrets
from streamlit.testing.v1 import AppTest

from mia_core.errors import ConfigError
from mia_core.ui import sign_in


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file in which whoever runs the server says how people sign in."""
    path, before = tmp_path / "secrets.toml", config.get_option("secrets.files")
    config.set_option("secrets.files", [str(path)])
    monkeypatch.setattr(st, "secrets", Secrets())
    yield path
    config.set_option("secrets.files", before)


def test_without_secrets_nobody_signs_in(secrets: Path) -> None:
    assert sign_in.providers() == {}
    secrets.write_text('[other]\nkey = "value"\n')
    assert sign_in.providers() == {}


def test_secrets_that_cannot_be_read_let_nobody_in(secrets: Path) -> None:
    secrets.write_text("[auth]\nclient_id = unquoted\n")
    with pytest.raises(ConfigError, match=r"secrets\.toml' cannot be read"):
        sign_in.providers()


def test_a_cookie_that_can_be_forged_lets_nobody_in(secrets: Path) -> None:
    secrets.write_text('[auth]\ncookie_secret = "short"\nclient_id = "x"\n')
    with pytest.raises(ConfigError, match=r"auth\.cookie_secret .* shorter than 32"):
        sign_in.providers()
    secrets.write_text(f'[auth]\ncookie_secret = "{"a1" * 16}"\nclient_id = "x"\n')
    st.secrets._reset()
    assert sign_in.providers() == {"": "your organisation"}


def test_the_page_then_holds_the_reason_and_nothing_else(
    open_page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable() -> dict[str, str]:
        raise ConfigError("the reason")

    monkeypatch.setattr(sign_in, "providers", unreadable)
    app = open_page("start", audit="a" * 64)
    assert [title.value for title in app.title] == ["MemberScope"]
    assert [text.value for text in app.text] == ["the reason"]
    assert not app.button


def test_a_fault_on_the_way_in_opens_no_page(
    open_page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ValueError("broken")

    monkeypatch.setattr(sign_in, "let_in", broken)
    app = open_page("methods")
    assert "fault of ours" in app.error[0].value
    assert not app.title
