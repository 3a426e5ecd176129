"""Which files of the server a page may read: those of folders that whoever runs it has named, and nothing else.

``MIA_DATA_FOLDERS`` lists them, parted as in PATH. Where it is not set, any path may be named, but only by somebody who sits at
the machine itself (see `any_path`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mia_core.data.formats import TABLE_SUFFIXES
from mia_core.errors import ConfigError, DataError

VARIABLE = "MIA_DATA_FOLDERS"
MOST_OFFERED = 500
DEEPEST = 3
"""Folders within folders that are looked through."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Offered:
    """One file, or folder of tables, that a page may offer."""

    path: Path
    name: str
    """Its place below the folder that was named, that folder's own name first."""
    folder: bool


def named_folders() -> tuple[Path, ...]:
    """The folders of ``MIA_DATA_FOLDERS``, their links followed.

    Raises:
        ConfigError: one of them is no folder.
    """
    found = []
    for text in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        path = Path(text).expanduser()
        if not path.is_dir():
            raise ConfigError(f"{VARIABLE} names {text!r}, which is no folder; correct it and start the server again")
        found.append(path.resolve())
    return tuple(found)


def any_path(address: str | None, *, others: bool) -> bool:
    """Whether a page may read any path: no folder is named, and nobody but the person at this machine reaches the server.

    Args:
        address: that the server is bound to.
        others: whether people from elsewhere are let in, by a sign-in or by a gate before the server.
    """
    return not os.environ.get(VARIABLE) and address in LOOPBACK and not others


def offered(folders: Sequence[Path]) -> list[Offered]:
    """Tables, and folders that hold some, in these folders; at most 500, by name. Links that lead out are left out."""
    found: list[Offered] = []
    for top in folders:
        for path, folder in _walk(top, DEEPEST):
            if len(found) == MOST_OFFERED:
                return found
            if _within(path, folders):
                found.append(Offered(path, (Path(top.name) / path.relative_to(top)).as_posix(), folder))
    return found


def _walk(top: Path, depth: int) -> Iterator[tuple[Path, bool]]:
    entries = sorted(top.iterdir(), key=lambda path: path.name.casefold())
    tables = [path for path in entries if path.is_file() and path.suffix.casefold() in TABLE_SUFFIXES]
    if tables:
        yield top, True
    yield from ((path, False) for path in tables)
    for path in entries:
        # A link to a folder may lead back to where one came from.
        if depth and path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
            yield from _walk(path, depth - 1)


def checked(path: Path, folders: Sequence[Path]) -> Path:
    """A path that lies in one of these folders, and so does all that is read with it.

    Raises:
        DataError: it leads out of them, or something beside it that would be read does.
    """
    try:
        resolved = Path(os.path.expanduser(path)).resolve()
        beside = resolved if resolved.is_dir() else resolved.parent
    except (OSError, ValueError) as error:
        raise DataError(f"{str(path)[:80]!r} is no path that this server can read; check the spelling") from error
    if not _within(resolved, folders):
        raise DataError(
            f"{str(path)!r} is outside of the folders that this server offers; put the file into one of them, or ask whoever "
            f"runs the server to add its folder to {VARIABLE}"
        )
    leading_out = next(
        (entry for entry in beside.iterdir() if entry.is_symlink() and not _within(entry, folders)), None
    )
    if leading_out is not None:
        raise DataError(
            f"{leading_out.name!r} is a link that leads out of the folders that this server offers; put the file itself there"
        )
    return resolved


def _within(path: Path, folders: Sequence[Path]) -> bool:
    resolved = path.resolve()
    return any(resolved.is_relative_to(folder) for folder in folders)
