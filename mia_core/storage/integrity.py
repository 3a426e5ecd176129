"""Is a folder as it was written? Size and SHA-256 of each of its files stand in its manifest, which vouches for itself.

Presence and sizes are looked at every time. A file is hashed when this process reads it first, and again when its time of
change, size or place on the disk is another than when it was hashed: a bit that flipped is found before a number is used.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mia_core.errors import StoreError
from mia_core.keys import file_key

MANIFEST = "artifact.json"
SMALL = 8 * 2**20
"""Bytes. Lists of results read files up to this size of each of them, and so these are hashed before there is a list."""

Signature = tuple[int, int, int, int]
_verified: dict[str, Signature] = {}
"""Files of which this process knows that they were as written, as they were then."""
_read: dict[str, tuple[Signature, dict[str, Any]]] = {}


class Damaged(StoreError):
    """A folder is not as it was written. The text says how, without anybody's data."""


def manifest_of(folder: Path, key: str, row: dict[str, Any]) -> str:
    """The text of the manifest of a folder that was just written; its files count as verified from now on."""
    files = {}
    for name, status in sorted(_files(folder)):
        if name != MANIFEST:
            files[name] = [status.st_size, file_key(folder / name)]
    document = {"key": key, **row, "files": files}
    return json.dumps({**document, "manifest": _digest(document)}, ensure_ascii=False)


def vouch(folder: Path) -> None:
    """Notes that the files of a folder are as this process wrote them a moment ago."""
    for name, status in _files(folder):
        _verified[str(folder / name)] = _signature(status)


def read_manifest(folder: Path, key: str) -> dict[str, Any]:
    """The manifest of a folder.

    Returns:
        what was noted of it; without ``files`` where an earlier version wrote it, which noted no hashes.
    Raises:
        FileNotFoundError: there is no such folder.
        Damaged: it is missing, was altered, or belongs to another folder.
    """
    path = folder / MANIFEST
    try:
        signature = _signature(path.stat())
        known = _read.get(str(path))
        if known is not None and known[0] == signature:
            return known[1]
        document = json.loads(path.read_bytes())
        stated = document.pop("manifest", None)
        unverifiable = stated is None and "files" not in document
        if document.pop("key") != key or not (unverifiable or stated == _digest({"key": key, **document})):
            raise Damaged("its manifest was altered")
    except FileNotFoundError:
        if not folder.is_dir():
            raise
        raise Damaged("its manifest is missing") from None
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        raise Damaged("its manifest cannot be read") from None
    _read[str(path)] = signature, document
    return document


def check(folder: Path, manifest: dict[str, Any], *, small_only: bool = False, anew: bool = False) -> list[str]:
    """Compares a folder with its manifest; one without hashes passes.

    Args:
        small_only: of large files presence and size are looked at, no more.
        anew: hashes what was hashed before, too.
    Returns:
        the files that do not belong there.
    Raises:
        FileNotFoundError: the folder went meanwhile.
        Damaged: a file is missing, or has other bytes than were written.
    """
    if "files" not in manifest:
        return []
    there = dict(_files(folder))
    for name, (size, digest) in manifest["files"].items():
        status = there.get(name)
        if status is None:
            raise Damaged(f"{name} is missing")
        if status.st_size != size:
            raise Damaged(f"{name} has {status.st_size:,} bytes instead of {size:,}")
        if small_only and size > SMALL:
            continue
        path, signature = str(folder / name), _signature(status)
        if anew or _verified.get(path) != signature:
            if _hashed(folder, name) != digest:
                raise Damaged(f"{name} has other bytes than were written")
            _verified[path] = signature
    return [name for name in there if name != MANIFEST and name not in manifest["files"]]


def _hashed(folder: Path, name: str) -> str:
    try:
        return file_key(folder / name)
    except OSError as error:
        # A bad block of the disk is damage; a home folder that went away is not.
        if error.errno == errno.EIO:
            raise Damaged(f"{name} cannot be read") from None
        raise


def _files(folder: Path, within: str = "") -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as found:
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(folder / entry.name, f"{within}{entry.name}/")
            else:
                yield f"{within}{entry.name}", entry.stat(follow_symlinks=False)


def _signature(status: os.stat_result) -> Signature:
    # The time of change cannot be set by hand, as that of modification can.
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def _digest(document: dict[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
