"""Seals: whoever has the public key of a home can check that a report left it as it lies before them.

A seal is one line of text at the very end of a file, where HTML (a comment), PDF (a comment after the end mark) and ZIP (the
archive's comment) allow one. It signs every byte before it and itself, up to the signature. Nothing may follow it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from mia_core import __version__
from mia_core.errors import ConfigError, DataError, StoreError

KEY_FILE, PSEUDONYM_FILE = "seal.pem", "pseudonyms.key"
FINGERPRINT = 32
"""Hexadecimal digits: 128 bits, beyond what anybody can find another key for."""
ENCLOSING = {"html": (b"<!-- ", b" -->\n"), "pdf": (b"% ", b"\n"), "zip": (b"", b"")}
"""What a file type needs around a comment at its end."""
SEAL = re.compile(
    rb"memberscope seal 1; key ([0-9a-f]{32}); public ([0-9a-f]{64}); "
    rb"sealed (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ); version ([0-9A-Za-z.+]{1,40}); signature ([0-9a-f]{128})"
)
LONGEST_SEAL = 500


@dataclass(frozen=True)
class Seal:
    """An unbroken seal."""

    public_key: str
    """Hexadecimal."""
    fingerprint: str
    sealed: str
    """When, by the clock of the machine that sealed it; UTC."""
    version: str
    """Of this program, when it sealed."""


class SealingKey:
    """The key pair of one home folder.

    Args:
        home: the folder. The pair is made there when it is first asked for, and readable for its owner alone.
    """

    def __init__(self, home: Path) -> None:
        secret = kept_secret(home / KEY_FILE, _new_key)
        try:
            private = load_pem_private_key(secret, password=None)
        except ValueError:
            private = None
        if not isinstance(private, Ed25519PrivateKey):
            raise StoreError(
                f"{str(home / KEY_FILE)!r} holds no Ed25519 key; put the key back, or move the file away and a new one is made"
            )
        self._private = private
        self.public_key = private.public_key().public_bytes_raw().hex()
        self.fingerprint = fingerprint_of(self.public_key)

    def seal(self, content: bytes, now: datetime | None = None) -> bytes:
        """The content of an HTML, PDF or ZIP file with a seal at its end.

        Args:
            now: the time that the seal states; by default that of this machine.
        """
        sealed = (now or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        opening, closing = ENCLOSING[_kind(content)]
        stated = (
            f"memberscope seal 1; key {self.fingerprint}; public {self.public_key}; sealed {sealed}; "
            f"version {__version__}; signature "
        ).encode()
        if _kind(content) == "zip":
            # The archive says before its comment how long the comment is.
            content = content[:-2] + (len(stated) + 128).to_bytes(2, "little")
        elif not content.endswith(b"\n"):
            content += b"\n"
        signed = content + opening + stated
        return signed + self._private.sign(signed).hex().encode() + closing

    def sign(self, content: bytes) -> str:
        """A signature (hexadecimal) of what is kept apart from it."""
        return self._private.sign(content).hex()

    def has_signed(self, content: bytes, signature: str) -> bool:
        """Whether a signature is this key's, of just these bytes."""
        try:
            self._private.public_key().verify(bytes.fromhex(signature), content)
        except (InvalidSignature, ValueError):
            return False
        return True


def is_own(home: Path, seal: Seal) -> bool:
    """Whether a seal was made with the key of a home folder; one that has none is given none."""
    return (home / KEY_FILE).exists() and SealingKey(home).public_key == seal.public_key


def check_seal(content: bytes) -> Seal:
    """The seal of a file that nobody edited since it was sealed.

    Raises:
        DataError: the file has no seal, was edited, or something follows the seal.
    """
    found = list(SEAL.finditer(content, max(0, len(content) - LONGEST_SEAL)))
    if not found:
        if b"memberscope seal 1;" in content:
            raise DataError(
                "the seal is broken: the file was edited after it was sealed, or something was put behind the seal"
            )
        raise DataError(
            "there is no seal; reports and packages that this program writes have one at their end. For a single table or "
            "JSON file, check the package it came in"
        )
    last = found[-1]
    fingerprint, public, sealed, version, signature = (part.decode() for part in last.groups())
    try:
        opening, closing = ENCLOSING[_kind(content)]
        begins = last.start() - len(opening)
        if content[begins : last.start()] != opening or content[last.end() :] != closing:
            raise DataError("the seal is broken: something was put behind or around it")
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        key.verify(bytes.fromhex(signature), content[: last.start(5)])
    except (InvalidSignature, ValueError):
        raise DataError("the seal is broken: the file was edited after it was sealed") from None
    if fingerprint != fingerprint_of(public):
        raise DataError("the seal is broken: it names another key than it was made with")
    return Seal(public, fingerprint, sealed, version)


def fingerprint_of(public_key: str) -> str:
    """What people compare instead of a whole public key."""
    return hashlib.sha256(bytes.fromhex(public_key)).hexdigest()[:FINGERPRINT]


def in_groups(text: str) -> str:
    """A fingerprint or key in groups of four, to be read aloud."""
    return " ".join(text[i : i + 4] for i in range(0, len(text), 4))


def names_key(text: str, seal: Seal) -> bool:
    """Whether a public key or fingerprint, with or without spaces and colons, is the one of a seal.

    Raises:
        ConfigError: it is neither.
    """
    plain = re.sub(r"[\s:]", "", text).lower()
    if not re.fullmatch(r"[0-9a-f]{32}|[0-9a-f]{64}", plain):
        raise ConfigError(
            f"--key has {len(plain)} characters; give a public key of 64 hexadecimal digits or a fingerprint of {FINGERPRINT}, "
            "as 'key' prints them"
        )
    return plain in (seal.public_key, seal.fingerprint)


def pseudonym_key(home: Path) -> bytes:
    """The secret that turns ids into pseudonyms; made when it is first asked for, readable for its owner alone."""
    return kept_secret(home / PSEUDONYM_FILE, lambda: os.urandom(32))


def _new_key() -> bytes:
    private = Ed25519PrivateKey.generate()
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def kept_secret(path: Path, make: Callable[[], bytes]) -> bytes:
    """What a file holds; the first process that asks makes it, whole or not at all."""
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                stream.write(make())
                stream.flush()
                os.fsync(stream.fileno())
            try:
                os.link(fresh, path)
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"{str(path)!r}: {error.strerror}; it must be a file that this program may read") from error


def _kind(content: bytes) -> str:
    """html, pdf or zip."""
    if content.startswith(b"%PDF-"):
        return "pdf"
    return "zip" if content.startswith(b"PK\x03\x04") else "html"
