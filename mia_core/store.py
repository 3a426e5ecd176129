"""Content-addressed artifacts in one private folder: written once, moved into place whole, found again by key.

Arrays are .npy or Parquet files, weights safetensors; the index is a diskcache that can hold JSON and nothing else.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import diskcache
from filelock import FileLock

from mia_core.errors import StoreError

SCHEMA_VERSION = 1
RECENT_SECONDS = 3_600.0
"""An artifact that was used within this time is never evicted: a running audit may be reading it."""
KEY = re.compile(r"[0-9a-f]{64}")
OWNERS = "owners"
"""Within the home folder of a server where people sign in: the home folders of each of them."""


def home_folder() -> Path:
    """The folder of everything that is kept: MIA_HOME, else ``.memberscope`` in the user's home; mode 0700."""
    home = Path(os.environ.get("MIA_HOME") or Path.home() / ".memberscope").expanduser().absolute()
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        home.chmod(0o700)
    except OSError as error:
        raise StoreError(f"MIA_HOME is {str(home)!r}: {error.strerror}; name a folder that you may write to") from error
    return home


class JsonDisk(diskcache.Disk):
    """A diskcache Disk that writes JSON text and refuses to read anything that would have to be unpickled.

    The stock JSONDisk falls back to pickle on read (CVE-2025-69872).
    """

    def put(self, key: Any) -> tuple[str, bool]:
        """Keys are text."""
        if not isinstance(key, str):
            raise StoreError(f"the index takes text as keys, not {type(key).__name__}")
        return key, True

    def get(self, key: Any, raw: bool) -> str:
        """A key as it was put."""
        if not raw or not isinstance(key, str):
            raise StoreError("the index holds a key that this program did not write; it is rebuilt from the artifacts")
        return key

    def store(self, value: Any, read: bool, key: Any = diskcache.UNKNOWN) -> Any:
        """Values are JSON."""
        if read:
            raise StoreError("the index holds JSON only, not streams")
        return super().store(json.dumps(value, ensure_ascii=False), read=False, key=key)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        """A value as it was stored; pickled rows are refused unread."""
        if mode == diskcache.core.MODE_PICKLE or read:
            raise StoreError("the index holds a pickled row, which is never opened; it is rebuilt from the artifacts")
        return json.loads(super().fetch(mode, filename, value, read))


@dataclass(frozen=True)
class Entry:
    """One finished artifact."""

    key: str
    kind: str
    name: str
    created: str
    """ISO 8601, UTC."""
    last_used: float
    """Seconds since 1970."""
    bytes: int
    keep: bool
    path: Path


class Store:
    """The artifacts of one home folder. Several processes may use it at once.

    Args:
        home: the folder; by default `home_folder()`.
        budget_bytes: what intermediates (``keep=False``) may take together; the least recently used go first.
    """

    def __init__(self, home: Path | None = None, budget_bytes: int = 20 * 2**30) -> None:
        self.home = home_folder() if home is None else Path(home)
        self.budget_bytes = budget_bytes
        for folder in (self.home, self._artifacts, self.home / "locks", self.home / "building", self.home / "scratch"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.home.chmod(0o700)
        self._check_schema()
        self._index = self._open_index()

    @property
    def _artifacts(self) -> Path:
        return self.home / "artifacts"

    def find(self, key: str) -> Path | None:
        """The folder of a finished artifact, or None."""
        if not KEY.fullmatch(key):
            return None
        folder = self._folder(key)
        if not (folder / "artifact.json").is_file():
            return None
        self._note(key, folder)
        return folder

    def build(
        self,
        key: str,
        kind: str,
        write: Callable[[Path], None],
        *,
        name: str = "",
        keep: bool = False,
        created: str = "",
    ) -> Path:
        """The folder of the artifact; where it is missing, `write` fills a temporary folder that is moved into place.

        Two processes that want the same key build it once.

        Args:
            created: of what was made elsewhere: when (ISO 8601, UTC); else it is now.
        Raises:
            StoreError: the disk is full or cannot be written.
        """
        found = self.find(key)
        if found is not None:
            return found
        with FileLock(self.home / "locks" / key, mode=0o600):
            found = self.find(key)
            if found is not None:
                return found
            temporary = self.home / "building" / f"{key}-{os.getpid()}"
            shutil.rmtree(temporary, ignore_errors=True)
            with _explained(self.home):
                temporary.mkdir(mode=0o700)
                try:
                    write(temporary)
                    self._finish(temporary, key, kind, name, keep, created)
                finally:
                    shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(self.home / "scratch" / key, ignore_errors=True)
        self._keep_budget()
        return self._folder(key)

    def scratch(self, key: str) -> Path:
        """A working folder for the build of a key; it survives a kill and goes when the build is finished."""
        folder = self.home / "scratch" / _checked(key)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def entries(self, *kinds: str) -> list[Entry]:
        """Finished artifacts of these kinds, or of all, the newest first."""
        found = []
        for key in list(self._index):
            row = self._index.get(key)
            if row is not None and (not kinds or row["kind"] in kinds) and self._folder(key).is_dir():
                found.append(Entry(key=key, path=self._folder(key), **row))
        return sorted(found, key=lambda entry: (entry.created, entry.last_used), reverse=True)

    def relabel(self, key: str, kind: str, name: str) -> None:
        """Gives a finished artifact another kind and name."""
        folder = self._folder(key)
        row = {**_manifest(folder), "kind": kind, "name": name}
        fresh = folder / "artifact.json.new"
        fresh.write_text(json.dumps({"key": key, **row}, ensure_ascii=False), encoding="utf-8")
        fresh.replace(folder / "artifact.json")
        self._index.set(key, row)

    def remove(self, key: str) -> None:
        """Deletes an artifact."""
        folder = self._folder(key)
        # Renamed first, so that nobody finds half of it.
        gone = self.home / "building" / f"{key}-removed-{os.getpid()}"
        if folder.is_dir():
            folder.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
        self._index.delete(key)

    def close(self) -> None:
        """Closes the index."""
        self._index.close()

    def _folder(self, key: str) -> Path:
        return self._artifacts / _checked(key)[:2] / key

    def _finish(self, temporary: Path, key: str, kind: str, name: str, keep: bool, created: str) -> None:
        size = sum(path.stat().st_size for path in temporary.rglob("*") if path.is_file())
        created = created or datetime.now(UTC).isoformat(timespec="microseconds")
        row = {"kind": kind, "name": name, "created": created, "last_used": time.time(), "bytes": size, "keep": keep}
        (temporary / "artifact.json").write_text(json.dumps({"key": key, **row}, ensure_ascii=False), encoding="utf-8")
        for path in [*temporary.rglob("*"), temporary]:
            _sync(path)
        folder = self._folder(key)
        folder.parent.mkdir(exist_ok=True, mode=0o700)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
        _sync(folder.parent)
        self._index.set(key, row)

    def _note(self, key: str, folder: Path) -> None:
        row = self._index.get(key)
        if row is None:
            row = _manifest(folder)
        if time.time() - row["last_used"] > 60 or key not in self._index:
            self._index.set(key, {**row, "last_used": time.time()})

    def _keep_budget(self) -> None:
        loose = sorted((e for e in self.entries() if not e.keep), key=lambda entry: entry.last_used)
        excess = sum(entry.bytes for entry in loose) - self.budget_bytes
        for entry in loose:
            if excess <= 0 or time.time() - entry.last_used < RECENT_SECONDS:
                return
            self.remove(entry.key)
            excess -= entry.bytes

    def _check_schema(self) -> None:
        path = self.home / "schema.json"
        if not path.exists():
            path.write_text(json.dumps({"version": SCHEMA_VERSION}))
            return
        try:
            version = json.loads(path.read_text())["version"]
        except (ValueError, KeyError, TypeError):
            version = None
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"the store in {str(self.home)!r} has schema version {version!r}, and this program reads "
                f"{SCHEMA_VERSION}; use the program version that wrote it, or set MIA_HOME to a new folder"
            )

    def _open_index(self) -> diskcache.Cache:
        folder = self.home / "index"
        with FileLock(self.home / "locks" / "index", mode=0o600):
            try:
                index = _cache(folder)
                rows = {key: index.get(key) for key in list(index)}
                if all(isinstance(row, dict) for row in rows.values()) and (rows or not any(self._artifacts.iterdir())):
                    return index
                index.close()
            except (StoreError, sqlite3.DatabaseError, ValueError, OSError):
                pass
            shutil.rmtree(folder, ignore_errors=True)
            index = _cache(folder)
            for manifest in self._artifacts.glob("*/*/artifact.json"):
                index.set(manifest.parent.name, _manifest(manifest.parent))
            return index


def _cache(folder: Path) -> diskcache.Cache:
    return diskcache.Cache(str(folder), disk=JsonDisk, eviction_policy="none")


def _manifest(folder: Path) -> dict[str, Any]:
    row: dict[str, Any] = json.loads((folder / "artifact.json").read_text(encoding="utf-8"))
    row.pop("key", None)
    return row


def _checked(key: str) -> str:
    if not KEY.fullmatch(key):
        raise StoreError(f"{key[:80]!r} is not a content key; a key is 64 digits of 0-9 and a-f")
    return key


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _explained(home: Path) -> Iterator[None]:
    """Turns a full or read-only disk into an error that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"the disk of {str(home)!r} is full; free some space or set MIA_HOME to a folder on another disk, "
                "then start again: what is finished is kept"
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS):
            raise StoreError(
                f"{str(home)!r} cannot be written; set MIA_HOME to a folder that you may write to"
            ) from error
        raise
