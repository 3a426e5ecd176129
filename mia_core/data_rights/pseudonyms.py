"""A finished audit is kept with pseudonyms in place of ids: keyed hashes, which only the key in the home folder can trace back.

What a person had tells who they are as well as a number does: the table of tokens, which holds everybody's titles in order,
goes, and so do the data, split, models and observations that only this audit rests on. Rows are put in the order of the
pseudonyms: that of the data would give away who is who. Each audit has pseudonyms of its own, so that nobody is followed from one
to another.
"""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from mia_core import parquet
from mia_core.data import library
from mia_core.data_rights.removal import check_nothing_runs, remove_audit
from mia_core.errors import ConfigError, NotFound
from mia_core.jobs.queue import Queue
from mia_core.keys import content_key
from mia_core.report.finished import pseudonym
from mia_core.report.results import SHIPPED, read_result
from mia_core.report.wording import PSEUDONYMISED
from mia_core.storage import journal
from mia_core.storage.seal import pseudonym_key
from mia_core.storage.store import Store

TELLING = ("tokens",)
"""Tables that say what somebody had."""


@dataclass(frozen=True)
class Pseudonymised:
    """What became of an audit."""

    key: str
    """Its new one: it is no longer what the old one stands for."""
    gone: int
    """Artifacts that were deleted with the real ids in them."""
    with_ids: list[str]
    """Names of data sets and audits in this home folder that still have the same users by their real ids."""


def pseudonymise(store: Store, key: str) -> Pseudonymised:
    """Replaces the ids of a finished audit.

    Raises:
        NotFound: there is no such audit.
        ConfigError: it has pseudonyms already, or something is running that may be reading it.
    """
    entry = next((entry for entry in store.entries("audit", "point") if entry.key == key), None)
    if entry is None:
        raise NotFound(f"audit {key[:80]!r}: there is none in this store")
    result = read_result(entry.path)
    if result.pseudonyms_of:
        raise ConfigError("the users of this audit go by pseudonyms already")
    check_nothing_runs(store, "may need the data of this audit", "replace the ids")
    queue = Queue(store.home)
    secret = pseudonym_key(store.home)
    new = content_key("pseudonymised", 1, {}, [key])
    changed = dataclasses.replace(
        result, key=new, pseudonyms_of=key, artifacts=[], notes=[*result.notes, PSEUDONYMISED]
    )

    def write(folder: Path) -> None:
        paths = [path for path in sorted(entry.path.glob("*.parquet")) if path.stem not in TELLING]
        for path in entry.path.glob(SHIPPED):
            shutil.copyfile(path, folder / path.name)
        changed.write(folder, {path.stem: _renamed(parquet.read(path), secret, key) for path in paths})

    store.build(new, entry.kind, write, name=entry.name, keep=True, created=entry.created)
    gone = remove_audit(store, key) - 1
    queue.remove_where(lambda job: "user" in job.payload and job.payload.get("audit") == key)
    queue.follow({key: new})
    with_ids = [
        other.name
        for other in store.entries("data-set", "audit", "point")
        if other.key != new and _same_users(store, other.path, other.kind, result.data["key"])
    ]
    journal.note(store.home, "audit pseudonymised", key=key, now=new, with_it=gone)
    return Pseudonymised(new, gone, with_ids)


def _renamed(table: pl.DataFrame, secret: bytes, audit: str) -> pl.DataFrame:
    """A table with pseudonyms in their own order."""
    if "user" not in table.columns:
        return table
    users = table["user"].unique()
    names = pl.DataFrame({"user": users, "name": [pseudonym(secret, audit, user) for user in users]})
    named = table.join(names, on="user", how="left", maintain_order="left")
    return named.with_columns(user=pl.col("name")).drop("name").sort("user", maintain_order=True)


def _same_users(store: Store, folder: Path, kind: str, data: str) -> bool:
    if kind == "data-set":
        return folder.name == library.key_of(data)
    other = read_result(folder)
    return other.data["key"] == data and not other.pseudonyms_of
