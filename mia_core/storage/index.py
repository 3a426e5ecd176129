"""The index of a store: a diskcache that can hold JSON and nothing else, or one in memory where the disk takes none."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import diskcache

from mia_core.errors import StoreError

FAILS = (StoreError, ValueError, sqlite3.Error, diskcache.Timeout, OSError)
"""What an index that is damaged, or on a disk without room, ends in."""


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


class InMemory(dict[str, Any]):
    """An index in memory, where none can be kept on the disk."""

    def set(self, key: str, row: Any) -> None:
        """As a diskcache does."""
        self[key] = row

    def delete(self, key: str) -> None:
        """As a diskcache does."""
        self.pop(key, None)

    def close(self) -> None:
        """Nothing is open."""


def open_index(folder: Path) -> diskcache.Cache:
    """The index that lies in a folder, made where there is none."""
    return diskcache.Cache(str(folder), disk=JsonDisk, eviction_policy="none")
