"""The disk under a home folder: files that appear whole or not at all, and what a full or read-only disk means in words."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mia_core.errors import MemberScopeError, StoreError

LEAST_ROOM = 2**20
"""Bytes. Libraries say in many ways that a write failed; with less room than this it is for lack of room."""
FULL = ("No space left", "os error 28", "disk is full", "quota exceeded", "os error 122")
READ_ONLY = ("readonly database", "Read-only file system", "os error 30")


def can_write(home: Path) -> bool:
    """Whether anything can be kept there at all."""
    return os.access(home, os.W_OK | os.X_OK)


@contextmanager
def explained(home: Path) -> Iterator[None]:
    """Turns what a full or read-only disk does to any library into an error that says what to do.

    Raises:
        StoreError: the disk is full, or nothing can be written there.
    """
    try:
        yield
    except MemberScopeError:
        raise
    except Exception as error:
        told = told_of_disk(home, error)
        if told is None:
            raise
        raise StoreError(told) from error


def told_of_disk(home: Path, error: Exception) -> str | None:
    """What a full or read-only disk has to do with an error; None: nothing."""
    text = str(error)
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.EACCES, errno.EPERM, errno.EROFS) or any(words in text for words in READ_ONLY):
        # A file of somebody else's that may not be read is no fault of the home folder.
        named = getattr(error, "filename", None)
        if named is None or Path(os.fsdecode(named)).is_relative_to(home):
            return f"{str(home)!r} cannot be written; set MIA_HOME to a folder that you may write to"
        return None
    full = number in (errno.ENOSPC, errno.EDQUOT) or any(words in text for words in FULL)
    if full or (isinstance(error, OSError | RuntimeError | sqlite3.Error) and _room(home) < LEAST_ROOM):
        return (
            f"the disk of {str(home)!r} is full; free some space or set MIA_HOME to a folder on another disk, "
            "then start again: what is finished is kept"
        )
    return None


def write_whole(path: Path, text: str) -> None:
    """Writes a file that other processes see as it was or as it will be; after a crash, too."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    sync(path.parent)


def sync(path: Path) -> None:
    """Waits until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _room(home: Path) -> int:
    try:
        return shutil.disk_usage(home).free
    except OSError:
        return LEAST_ROOM
