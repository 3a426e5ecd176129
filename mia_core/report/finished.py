"""A finished audit with all that a report of it is made from, and the names that its users go by there."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from mia_core import parquet
from mia_core.errors import NotFound
from mia_core.report.follow_ups import FollowUp, follow_ups
from mia_core.report.repeats import Repeats, find_repeats
from mia_core.report.results import AuditResult, read_result, read_table
from mia_core.storage.seal import pseudonym_key
from mia_core.storage.store import Store

Annex = Literal["none", "pseudonyms", "ids"]
PSEUDONYM = 16
"""Hexadecimal digits."""


@dataclass(frozen=True)
class Finished:
    """Everything about one finished audit that a report is made from."""

    result: AuditResult
    folder: Path
    repeats: Repeats
    follow_ups: Sequence[FollowUp]
    split: dict[str, Any]
    """The manifest of who has which role: sha256, split."""
    secret: bytes
    """Turns ids into pseudonyms."""

    def table(self, name: str, *columns: str) -> pl.DataFrame:
        """One of its tables; empty where it has none of that name."""
        there = (self.folder / f"{name}.parquet").is_file()
        return read_table(self.folder, name, columns) if there else pl.DataFrame()

    def columns(self, name: str) -> list[str]:
        """The columns of one of its tables; none where it has none of that name."""
        path = self.folder / f"{name}.parquet"
        return parquet.columns_of(path) if path.is_file() else []

    def naming(self, annex: Annex) -> Callable[[str], str]:
        """How a user is called: by their id, or by a pseudonym that only this home can trace back."""
        if annex == "ids" or self.result.pseudonyms_of:
            # Where there are no ids any more, what stands in the tables is a pseudonym already.
            return lambda user: user
        return lambda user: pseudonym(self.secret, self.result.key, user)


def read_finished(store: Store, key: str) -> Finished:
    """Everything about a finished audit.

    Raises:
        NotFound: there is none of that key.
    """
    folder = store.find(key)
    if folder is None or not (folder / "result.json").is_file():
        raise NotFound(f"audit {key[:80]!r}: there is none in this store")
    result = read_result(folder)
    splits = [entry.path for entry in store.entries("split") if entry.key in result.artifacts]
    kept = (splits[0] / "manifest.json").read_text(encoding="utf-8") if splits else ""
    manifest = json.loads(kept) if kept else _recorded(folder)
    return Finished(
        result, folder, find_repeats(store, result), follow_ups(store, result), manifest, pseudonym_key(store.home)
    )


def _recorded(folder: Path) -> dict[str, Any]:
    """The split as the table of users has it, for an audit that came along without its manifest."""
    split = {"roles": dict(read_table(folder, "users", ("user", "role")).sort("user").iter_rows())}
    text = json.dumps(split, ensure_ascii=False, sort_keys=True)
    return {"sha256": hashlib.sha256(text.encode()).hexdigest(), "split": split}


def pseudonym(secret: bytes, audit: str, user: str) -> str:
    """A user's name in one audit's reports: the same in all of them, another in every other audit."""
    return hmac.new(secret, f"{audit}\0{user}".encode(), hashlib.sha256).hexdigest()[:PSEUDONYM]


def names_in(store: Store, result: AuditResult, user: str) -> list[str]:
    """What a user may go by in an audit's tables: their id, or, where ids gave way to pseudonyms, either of both."""
    if not result.pseudonyms_of:
        return [user]
    return [user, pseudonym(pseudonym_key(store.home), result.pseudonyms_of, user)]
