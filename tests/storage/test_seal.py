"""A seal must break with any change, and say no more than it can."""

from __future__ import annotations

import io
import os
import re
import stat
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mia_core.__main__ import application
from mia_core.errors import ConfigError, DataError, StoreError
from mia_core.storage.seal import KEY_FILE, SealingKey, check_seal, in_groups, is_own, names_key, pseudonym_key
from mia_core.storage.store import Store

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def zipped() -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("a.txt", "what is in it")
    return written.getvalue()


KINDS = {
    "html": b"<!doctype html>\n<p>Findings</p>\n",
    "pdf": b"%PDF-1.7\n1 0 obj\nendobj\n%%EOF",
    "zip": zipped(),
}


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SealingKey:
    return SealingKey(tmp_path_factory.mktemp("sealer"))


@pytest.mark.parametrize("kind", KINDS)
def test_an_unedited_file_tells_who_sealed_it_and_when(kind: str, key: SealingKey) -> None:
    seal = check_seal(key.seal(KINDS[kind], NOON))
    assert (seal.public_key, seal.fingerprint, seal.sealed) == (key.public_key, key.fingerprint, "2026-03-01T12:00:00Z")


@pytest.mark.parametrize("kind", KINDS)
def test_every_changed_byte_breaks_the_seal(kind: str, key: SealingKey) -> None:
    sealed = key.seal(KINDS[kind], NOON)
    for place in range(len(sealed)):
        for flipped in (1, 0x20, 0x80):
            edited = bytearray(sealed)
            edited[place] ^= flipped
            with pytest.raises(DataError):
                check_seal(bytes(edited))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_can_be_taken_away_or_put_in(kind: str, key: SealingKey) -> None:
    sealed = key.seal(KINDS[kind], NOON)
    for place in range(len(sealed) + 1):
        with pytest.raises(DataError):
            check_seal(sealed[:place] + b"\n" + sealed[place:])
        if place < len(sealed):
            with pytest.raises(DataError):
                check_seal(sealed[:place] + sealed[place + 1 :])
    for more in (b" ", b"\n", b"<script>1</script>", b"\n%%EOF", sealed):
        with pytest.raises(DataError):
            check_seal(sealed + more)


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=300), more=st.binary(min_size=1, max_size=40))
def test_any_content_can_be_sealed_and_none_can_follow(content: bytes, more: bytes, key: SealingKey) -> None:
    content = b"<p>" + content
    sealed = key.seal(content, NOON)
    assert check_seal(sealed).public_key == key.public_key
    assert sealed.startswith(content)
    with pytest.raises(DataError):
        check_seal(sealed + more)


def test_a_seal_of_one_file_does_not_fit_another(key: SealingKey) -> None:
    first, second = key.seal(b"<p>Nothing found</p>\n", NOON), b"<p>Everything found</p>\n"
    with pytest.raises(DataError, match="edited"):
        check_seal(second + first[first.index(b"<!-- ") :])


def test_whoever_seals_again_gives_their_own_name(key: SealingKey, tmp_path: Path) -> None:
    other = SealingKey(tmp_path)
    seal = check_seal(other.seal(key.seal(KINDS["html"], NOON).replace(b"Findings", b"No findings"), NOON))
    assert not names_key(key.fingerprint, seal)
    assert names_key(other.fingerprint, seal)


def test_nobody_seals_under_the_fingerprint_of_somebody_else(key: SealingKey, tmp_path: Path) -> None:
    forger = SealingKey(tmp_path / "forger")
    forger.fingerprint = key.fingerprint
    with pytest.raises(DataError, match="another key"):
        check_seal(forger.seal(b"<p>A report</p>"))


def test_a_sealed_archive_still_opens(key: SealingKey) -> None:
    with zipfile.ZipFile(io.BytesIO(key.seal(KINDS["zip"]))) as archive:
        assert archive.testzip() is None
        assert archive.read("a.txt") == b"what is in it"


def test_an_unsealed_file_is_told_apart_from_a_broken_seal(key: SealingKey) -> None:
    with pytest.raises(DataError, match="no seal"):
        check_seal(b"<p>Findings</p>")
    with pytest.raises(DataError, match="broken"):
        check_seal(key.seal(KINDS["html"]) + b"x")


def test_a_key_is_named_with_or_without_spaces_and_nothing_else_will_do(key: SealingKey) -> None:
    seal = check_seal(key.seal(KINDS["pdf"]))
    for name in (key.fingerprint, in_groups(key.fingerprint).upper(), key.public_key, ":".join(key.public_key)):
        assert names_key(name, seal)
    assert not names_key("0" * 32, seal)
    for name in ("", key.fingerprint[:31], "zz" * 16):
        with pytest.raises(ConfigError):
            names_key(name, seal)


def test_the_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = SealingKey(home)
    assert SealingKey(home).public_key == first.public_key
    assert pseudonym_key(home) == pseudonym_key(home)
    for path in home.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(os.listdir(home)) == ["pseudonyms.key", "seal.pem"]
    (home / KEY_FILE).write_text("no key")
    with pytest.raises(StoreError, match="Ed25519"):
        SealingKey(home)


def test_asking_whose_seal_it_is_makes_no_key(tmp_path: Path, key: SealingKey) -> None:
    assert not is_own(tmp_path, check_seal(key.seal(KINDS["html"])))
    assert not list(tmp_path.iterdir())


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(application, list(arguments))
    return (0 if done.exit_code == 0 else getattr(done.exception, "exit_code", 1)), done.output, str(done.exception)


def test_verify_says_who_and_fails_for_strangers_and_edits(store: Store, key: SealingKey, tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs.html", tmp_path / "ours.html"
    theirs.write_bytes(key.seal(KINDS["html"]))
    ours.write_bytes(SealingKey(store.home).seal(KINDS["html"]))
    assert run("verify", str(ours))[0] == 0
    code, told, error = run("verify", str(theirs))
    assert code == 3
    assert "Unedited" in told
    assert "nothing shows who made the report" in error
    assert run("verify", str(theirs), "--key", in_groups(key.fingerprint))[0] == 0
    assert run("verify", str(theirs), "--key", key.public_key)[0] == 0
    for wrong, code in ((key.fingerprint, 3), ("abc", 2)):
        # Nothing good is said of a file before its key was judged.
        assert run("verify", str(ours), "--key", wrong)[:2] == (code, "")
    ours.write_bytes(ours.read_bytes().replace(b"Findings", b"Nothing."))
    assert "edited" in run("verify", str(ours))[2]
    assert run("verify", str(tmp_path / "nowhere"))[0] == 3


def test_key_prints_what_verify_takes(store: Store) -> None:
    _, told, _ = run("key")
    own = SealingKey(store.home)
    assert re.search(r"Public key: +([0-9a-f]{64})", told)[1] == own.public_key  # type: ignore[index]
    assert in_groups(own.fingerprint) in told
    assert "PRIVATE" not in told
