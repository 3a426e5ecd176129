"""Content-addressed artifacts in one private folder: written once, moved into place whole, found again by key.

Arrays are .npy or Parquet files, weights safetensors; the index is a diskcache that can hold JSON and nothing else. What is
no longer as it was written (see `integrity`) is set aside when it is asked for, and so made anew by whoever needs it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from mia_core.errors import StoreError
from mia_core.storage import integrity
from mia_core.storage.disk import can_write, explained, sync, write_whole
from mia_core.storage.index import FAILS, InMemory, open_index
from mia_core.storage.integrity import MANIFEST, Damaged

SCHEMA_VERSION = 2
UPGRADED = (1,)
"""Versions that are read as they are: artifacts of version 1 lack hashes. A program that knows no hashes must not write here."""
RECENT_SECONDS = 3_600.0
"""An artifact that was used within this time is never evicted: a running audit may be reading it."""
BOOT = Path("/proc/sys/kernel/random/boot_id")
KEY = re.compile(r"[0-9a-f]{64}")
COLUMNS = ("kind", "name", "created", "last_used", "bytes", "keep")
OWNERS = "owners"
"""Within the home folder of a server where people sign in: the home folders of each of them."""


def installation_of(home: Path) -> Path:
    """The home folder of the whole server: a home itself, or, of somebody who signs in, the one that theirs lies in."""
    return home.parents[1] if home.parent.name == OWNERS else home


logger = logging.getLogger(__name__)


def home_folder() -> Path:
    """The folder of everything that is kept: MIA_HOME, else ``.memberscope`` in the user's home; mode 0700."""
    home = Path(os.environ.get("MIA_HOME") or Path.home() / ".memberscope").expanduser().absolute()
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        make_private(home)
    except OSError as error:
        raise StoreError(f"MIA_HOME is {str(home)!r}: {error.strerror}; name a folder that you may write to") from error
    return home


def make_private(home: Path) -> None:
    """Takes from everybody else what they may do in a folder; one that is private already need not be writable."""
    if home.stat().st_mode & 0o777 != 0o700:
        home.chmod(0o700)


def homes() -> list[Path]:
    """The home folder of this installation, and those of everybody who signs in."""
    return [home_folder(), *sorted((home_folder() / OWNERS).glob("*/"))]


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


@dataclass(frozen=True)
class Loss:
    """An artifact that was damaged on the disk and set aside; making it again ends this."""

    key: str
    kind: str
    name: str
    noticed: str
    """ISO 8601, UTC."""


@dataclass(frozen=True)
class Checked:
    """One artifact, read anew from its first byte to its last."""

    key: str
    kind: str
    """Empty where its manifest does not say."""
    state: Literal["sound", "damaged", "not verifiable"]
    fault: str = ""


class Store:
    """The artifacts of one home folder. Several processes may use it at once.

    Args:
        home: the folder; by default `home_folder()`.
        budget_bytes: what intermediates (``keep=False``) may take together; the least recently used go first.
    """

    def __init__(self, home: Path | None = None, budget_bytes: int = 20 * 2**30) -> None:
        self.home = home_folder() if home is None else Path(home)
        self.budget_bytes = budget_bytes
        # What was opened or made with this object: work that takes days goes on with what it had at its beginning.
        self._held: set[str] = set()
        self._held_since = time.monotonic()
        with explained(self.home):
            self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self.writable:
                for folder in ("artifacts", "locks", "building", "scratch"):
                    (self.home / folder).mkdir(exist_ok=True, mode=0o700)
                make_private(self.home)
            self._check_schema()
            self._index = self._open_index()
            if self.writable:
                self._clear_leftovers()

    @property
    def writable(self) -> bool:
        """Whether anything new can be kept."""
        return can_write(self.home)

    @property
    def _artifacts(self) -> Path:
        return self.home / "artifacts"

    def find(self, key: str) -> Path | None:
        """The folder of a finished artifact that is as it was written, or None.

        What was damaged is set aside: whoever asks makes it again.

        Raises:
            StoreError: the disk does not let it be read.
        """
        if not KEY.fullmatch(key):
            return None
        with explained(self.home):
            folder = self._sound(key)
        if folder is not None:
            self._held.add(key)
            self._note(key, folder)
        return folder

    def holds(self, key: str) -> bool:
        """Whether there is an artifact of this key, be it damaged; nothing of it is read."""
        return self._folder(key).is_dir()

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
        with explained(self.home), self._lock(key):
            found = self._sound(key, locked=True)
            if found is not None:
                return found
            created = created or datetime.now(UTC).isoformat(timespec="microseconds")
            self._put(key, {"kind": kind, "name": name, "created": created, "keep": keep}, write)
            shutil.rmtree(self.home / "scratch" / key, ignore_errors=True)
            (self.home / "damaged" / f"{key}.json").unlink(missing_ok=True)
        self._held.add(key)
        self._keep_budget()
        return self._folder(key)

    def alter(
        self, key: str, write: Callable[[Path], None], *, kind: str | None = None, name: str | None = None
    ) -> None:
        """Changes a finished artifact: `write` gets a copy of its folder, which then takes its place.

        Args:
            kind: and
            name: what it is from now on; by default as before.
        Raises:
            StoreError: there is no such artifact, or the disk is full or cannot be written.
        """
        with explained(self.home), self._lock(key):
            folder = self._sound(key, locked=True)
            if folder is None:
                raise StoreError(f"artifact {key[:12]}… is no longer in the store; make it again")
            row = _row(integrity.read_manifest(folder, key))
            row |= {"kind": kind or row["kind"], "name": row["name"] if name is None else name}

            def copy(fresh: Path) -> None:
                shutil.copytree(folder, fresh, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
                write(fresh)

            self._put(key, row, copy)

    def scratch(self, key: str) -> Path:
        """A working folder for the build of a key; it survives a kill and goes when the build is finished."""
        folder = self.home / "scratch" / _checked(key)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def entries(self, *kinds: str) -> list[Entry]:
        """Finished artifacts of these kinds, or of all, the newest first.

        Of named kinds those that are damaged are set aside; of their large files presence and size are looked at, no more:
        `find` goes before reading one.
        """
        found = []
        for key, row in self._rows().items():
            if kinds and row["kind"] not in kinds:
                continue
            with explained(self.home):
                there = self._sound(key, small_only=True) is not None if kinds else self.holds(key)
            if there:
                found.append(Entry(key=key, path=self._folder(key), **_row(row)))
        return sorted(found, key=lambda entry: (entry.created, entry.last_used), reverse=True)

    @property
    def size(self) -> int:
        """Bytes of everything that is stored, and of the lists that were handed in for audits."""
        handed_in = sum(path.stat().st_size for path in (self.home / "lists").glob("*"))
        return handed_in + sum(row["bytes"] for row in self._rows().values())

    def remove(self, key: str) -> None:
        """Deletes an artifact.

        Raises:
            StoreError: the disk cannot be written.
        """
        with explained(self.home):
            self._remove(key)
            (self.home / "damaged" / f"{key}.json").unlink(missing_ok=True)

    def in_use(self, key: str) -> bool:
        """Whether an artifact was used so lately that a running audit may be reading it; whoever deletes asks first."""
        return _within(self._index.get(key) or {}, RECENT_SECONDS)

    def losses(self) -> list[Loss]:
        """What was damaged on the disk and set aside, and not made again since; the newest first."""
        found = []
        for path in (self.home / "damaged").glob("*.json"):
            with contextlib.suppress(ValueError, TypeError, OSError):
                found.append(Loss(key=path.stem, **json.loads(path.read_text(encoding="utf-8"))))
        return sorted(found, key=lambda loss: loss.noticed, reverse=True)

    def check(self, *, repair: bool = False) -> Iterator[Checked]:
        """Reads every artifact anew and says what it found.

        Args:
            repair: sets aside what is damaged, and mends the index.
        """
        rows = self._rows() if repair else {}
        for folder in sorted(self._artifacts.glob("*/*/")):
            key, kind = folder.name, ""
            if not KEY.fullmatch(key) or folder.parent.name != key[:2]:
                yield Checked(key[:64], "", "damaged", "it is in a place of the store where nothing belongs")
                if repair and folder.is_symlink():
                    folder.unlink()
                elif repair:
                    shutil.rmtree(folder)
                continue
            try:
                manifest = integrity.read_manifest(folder, key)
                kind = manifest["kind"]
                integrity.check(folder, manifest, anew=True)
                if repair:
                    self._reindex(key, _row(manifest), rows)
                yield Checked(key, kind, "sound" if "files" in manifest else "not verifiable")
            except FileNotFoundError:
                continue
            except Damaged as damage:
                if repair:
                    self._set_aside(key)
                yield Checked(key, kind, "damaged", str(damage))

    def close(self) -> None:
        """Closes the index."""
        self._index.close()

    def _folder(self, key: str) -> Path:
        return self._artifacts / _checked(key)[:2] / key

    def _lock(self, key: str) -> FileLock:
        # A lock of the system's, which ends with its process, however that ends.
        return FileLock(self.home / "locks" / key, mode=0o600)

    def _sound(self, key: str, *, small_only: bool = False, locked: bool = False) -> Path | None:
        """The folder of an artifact that is as it was written; one that is not is set aside."""
        folder = self._folder(key)
        try:
            manifest = integrity.read_manifest(folder, key)
            strangers = integrity.check(folder, manifest, small_only=small_only)
        except FileNotFoundError:
            return None
        except Damaged:
            return self._set_aside(key, locked=locked)
        for name in strangers:
            # Nobody reads by accident what somebody else put here.
            with contextlib.suppress(OSError):
                (folder / name).unlink()
        if strangers:
            logger.warning("Artifact %s: %d files that are none of its own were deleted", key[:12], len(strangers))
        return folder

    def _set_aside(self, key: str, *, locked: bool = False) -> Path | None:
        """Deletes a damaged artifact and notes that it was there; the folder, where it is sound after all."""
        folder = self._folder(key)
        # Where it cannot be deleted, or is being made anew, it is not found all the same.
        with contextlib.suppress(Timeout, *FAILS), contextlib.nullcontext() if locked else self._lock(key).acquire(0):
            try:
                # Somebody else may have changed it while it was looked at.
                integrity.check(folder, integrity.read_manifest(folder, key), anew=True)
                return folder
            except FileNotFoundError:
                return None
            except Damaged as damage:
                logger.warning("Artifact %s was damaged on the disk and is set aside: %s", key[:12], damage)
            row = self._index.get(key) or {"kind": "", "name": ""}
            (self.home / "damaged").mkdir(exist_ok=True, mode=0o700)
            noticed = datetime.now(UTC).isoformat(timespec="seconds")
            loss = {"kind": row["kind"], "name": row["name"], "noticed": noticed}
            write_whole(self.home / "damaged" / f"{key}.json", json.dumps(loss, ensure_ascii=False))
            self._remove(key)
        return None

    def _rows(self) -> dict[str, Any]:
        """The whole index; it is opened anew where it was lost, or could not be kept on the disk before."""
        if not isinstance(self._index, InMemory):
            with contextlib.suppress(*FAILS):
                rows = {key: row for key in list(self._index) if (row := self._index.get(key)) is not None}
                if all(_is_row(row) for row in rows.values()):
                    return rows
            self._index.close()
        self._index = self._open_index()
        return {key: row for key in list(self._index) if (row := self._index.get(key)) is not None}

    def _reindex(self, key: str, stated: dict[str, Any], rows: Mapping[str, Any]) -> None:
        """Puts into the index what a manifest states, where it has something else."""
        row = rows.get(key, {})
        if any(row.get(name) != value for name, value in stated.items() if name != "last_used"):
            self._use(key, stated)

    def _remove(self, key: str) -> None:
        folder = self._folder(key)
        # Renamed first, so that nobody finds half of it.
        gone = self.home / "building" / f"{key}-removed-{os.getpid()}"
        shutil.rmtree(gone, ignore_errors=True)
        if folder.is_dir():
            folder.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
        with contextlib.suppress(*FAILS):
            self._index.delete(key)

    def _put(self, key: str, row: Mapping[str, Any], write: Callable[[Path], None]) -> None:
        """Fills a folder aside and moves it into place; nobody ever sees half of it."""
        temporary = self.home / "building" / f"{key}-new-{os.getpid()}"
        before = self.home / "building" / f"{key}-before-{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(mode=0o700)
        try:
            # Explained here: with the temporary folder the lack of room goes, too.
            with explained(self.home):
                write(temporary)
                size = sum(path.stat().st_size for path in temporary.rglob("*") if path.is_file())
                row = {**row, "last_used": time.time(), "bytes": size}
                (temporary / MANIFEST).write_text(integrity.manifest_of(temporary, key, row), encoding="utf-8")
                for path in [*temporary.rglob("*"), temporary]:
                    sync(path)
            folder = self._folder(key)
            folder.parent.mkdir(exist_ok=True, mode=0o700)
            if folder.exists():
                folder.rename(before)
            temporary.rename(folder)
            sync(folder.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(before, ignore_errors=True)
        integrity.vouch(folder)
        self._use(key, row)

    def _note(self, key: str, folder: Path) -> None:
        """Notes that an artifact is in use."""
        try:
            row = self._index.get(key)
        except FAILS:
            return
        if row is None or not row.get("used") or not _within(row, 60):
            self._use(key, row or _row(integrity.read_manifest(folder, key)))

    def _use(self, key: str, row: Mapping[str, Any]) -> None:
        # An artifact without its row is put into the index again by the next that opens it.
        with contextlib.suppress(*FAILS):
            self._index.set(key, {**_row(row), "last_used": time.time(), "used": [_boot(), time.monotonic()]})

    def _keep_budget(self) -> None:
        if time.monotonic() - self._held_since > RECENT_SECONDS / 4:
            # What is held counts as in use, here and for others who keep a budget.
            self._held_since = time.monotonic()
            rows = self._rows()
            for key in self._held & rows.keys():
                self._use(key, rows[key])
        loose = sorted((e for e in self.entries() if not e.keep), key=lambda entry: entry.last_used)
        excess = sum(entry.bytes for entry in loose) - self.budget_bytes
        for entry in loose:
            if excess <= 0:
                return
            if not self.in_use(entry.key):
                self.remove(entry.key)
                excess -= entry.bytes

    def _check_schema(self) -> None:
        path = self.home / "schema.json"
        try:
            version = json.loads(path.read_text(encoding="utf-8"))["version"]
        except FileNotFoundError:
            version = None
        except (ValueError, KeyError, TypeError):
            raise StoreError(
                f"{str(path)!r} cannot be read, so nothing says which program version wrote this store; if none but this "
                "one did, delete the file, else set MIA_HOME to a new folder"
            ) from None
        if version is None or version in UPGRADED:
            # What is there is shown though there be no room even for this.
            with contextlib.suppress(OSError):
                write_whole(path, json.dumps({"version": SCHEMA_VERSION}))
        elif version != SCHEMA_VERSION:
            newer = isinstance(version, int) and version > SCHEMA_VERSION
            raise StoreError(
                f"the store in {str(self.home)!r} has schema version {version!r}, and this program reads {SCHEMA_VERSION}"
                f"{'; a newer version of the program wrote it' if newer else ''}. Use the program version that wrote it, or "
                "set MIA_HOME to a new folder"
            )

    def _open_index(self) -> Any:
        if not self.writable:
            return self._rebuilt(InMemory())
        folder = self.home / "index"
        with FileLock(self.home / "locks" / "index", mode=0o600):
            try:
                index = open_index(folder)
                rows = {key: index.get(key) for key in list(index)}
                if all(_is_row(row) for row in rows.values()):
                    return self._rebuilt(index, set(rows))
                index.close()
            except sqlite3.OperationalError:
                # No room for it, or no permission: this process does with one of its own.
                return self._rebuilt(InMemory())
            except FAILS:
                pass
            shutil.rmtree(folder, ignore_errors=True)
            try:
                return self._rebuilt(open_index(folder))
            except FAILS:
                return self._rebuilt(InMemory())

    def _rebuilt(self, index: Any, known: Collection[str] = ()) -> Any:
        """The index with what a crash, or a disk without room, kept out of it."""
        there = {path.name: path for path in self._artifacts.glob("*/*") if KEY.fullmatch(path.name)}
        for key in set(known) - set(there):
            index.delete(key)
        for key in set(there) - set(known):
            with contextlib.suppress(Damaged, FileNotFoundError):
                index.set(key, _row(integrity.read_manifest(there[key], key)))
        return index

    def _clear_leftovers(self) -> None:
        """Deletes what processes that were killed left behind; what a living one builds is locked."""
        for path in (self.home / "building").iterdir():
            key, _, what = path.name.partition("-")
            if not KEY.fullmatch(key):
                continue
            with contextlib.suppress(Timeout, OSError), self._lock(key).acquire(0):
                if what.startswith("before") and not self.holds(key):
                    path.rename(self._folder(key))
                shutil.rmtree(path, ignore_errors=True)
        for path in (self.home / "scratch").iterdir():
            if KEY.fullmatch(path.name) and self.holds(path.name):
                shutil.rmtree(path, ignore_errors=True)


def _row(document: Mapping[str, Any]) -> dict[str, Any]:
    """What an `Entry` says."""
    return {name: document[name] for name in COLUMNS}


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and set(COLUMNS) <= row.keys()


def _boot() -> str:
    """Which start of which machine this is: monotonic clocks of one start can be compared."""
    try:
        return BOOT.read_text()
    except OSError:
        return ""


def _within(row: Mapping[str, Any], seconds: float) -> bool:
    """Whether an artifact was used so lately. Neither a clock that was set nor a machine that slept counts as time."""
    boot, at = row.get("used") or ("", 0.0)
    if boot and boot == _boot():
        return time.monotonic() - at < seconds
    return abs(time.time() - row.get("last_used", 0.0)) < seconds


def _checked(key: str) -> str:
    if not KEY.fullmatch(key):
        raise StoreError(f"{key[:80]!r} is not a content key; a key is 64 digits of 0-9 and a-f")
    return key
