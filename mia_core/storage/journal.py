"""The log of a home folder: who ran, looked up, exported, deleted or erased what, and when. It is only ever added to.

One line is one event. Each line holds the SHA-256 of the one before, and how many lines there are and what the last one is
stands beside them, signed with the key of the installation: a line that is changed, moved, taken out, put in or cut off is
noticed, and which. Who can read that key can forge all of it: whoever must be sure against them notes the last line elsewhere
(`Verdict.mark`) and checks against that.

No line holds anybody's data: persons are keyed hashes, and audits, models and data sets their content keys.
"""

from __future__ import annotations

import getpass
import hashlib
import hmac
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from mia_core.errors import Cancelled, ConfigError, Stopped, StoreError
from mia_core.storage.disk import explained, write_whole
from mia_core.storage.seal import SealingKey, kept_secret
from mia_core.storage.store import KEY, OWNERS, installation_of

LINES, SEAL, LOCK, ASIDE = "journal.jsonl", "journal.seal", "journal.lock", "journal.aside"
"""The log; its sealed end; the lock of those who write; what stood behind the end and was never sealed."""
PEOPLE_KEY = "journal-people.key"
BEGINNING = "0" * 64
"""What the first line holds instead of the hash of one before."""
MARK = re.compile(r"(\d+):([0-9a-f]{8,64})")
EXAMPLE_MARK = "42:9f3b61c07ae25d84"
LOCK_SECONDS = 30.0
RESEALED, PUT_ASIDE = "log sealed anew", "log mended"

KINDS = {
    "audit": "audit",
    "point": "audit",
    "study": "study",
    "defenses": "comparison of defences",
    "forgetting": "check of forgetting",
    "data-set": "data set",
}
"""What is called so in the store, in words."""

Way = Literal["browser", "command line", "job"]
_way: Way = "browser"


@dataclass(frozen=True)
class Event:
    """One line."""

    number: int
    """Counted from 1."""
    at: str
    """ISO 8601, UTC, by the clock of this machine."""
    who: str
    """The account of the machine, or the number of who signed in, as their home folder is called."""
    way: str
    """browser, command line or job."""
    what: str
    about: dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """Whether a log is as it was written."""

    lines: int
    faults: list[tuple[int, str]]
    """(line, what is wrong with it), in order; none: the log is as it was written."""
    mark: str
    """NUMBER:HASH of the last line. Noted elsewhere, it shows later that nothing up to there was changed."""

    @property
    def intact(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


@dataclass(frozen=True)
class _End:
    """Where the sealed part of a log ends."""

    number: int
    digest: str
    size: int
    """Bytes of the file up to there."""
    next_digest: str = ""
    """Of a line that was about to be written when this was sealed."""


def by_way_of(way: Way) -> None:
    """Says what this process is: what it notes is noted so."""
    global _way
    _way = way


def person(home: Path, user: str) -> str:
    """What stands for a person in the log: the same each time, until somebody is erased, and of no use without the key."""
    return hmac.new(_people_key(home), user.encode(), hashlib.sha256).hexdigest()[:16]


def forget_persons(home: Path) -> None:
    """Throws the key of `person` away: from now on nobody can tell whom earlier lines are about."""
    (home / PEOPLE_KEY).unlink(missing_ok=True)


def note(home: Path, what: str, **about: Any) -> None:
    """Adds an event.

    Args:
        home: whose log.
        what: the event, such as ``audit finished``.
        about: keys, counts and kinds: JSON, and nothing that a person could be known by.
    Raises:
        StoreError: it cannot be written. What cannot be noted is not done.
    """
    with _locked(home):
        key = SealingKey(installation_of(home))
        end = _read_end(home, key)
        lines = home / LINES
        if end is None and _size(lines):
            end = _end_of(lines.read_bytes())
            end = _write(home, key, end, RESEALED, {"lines": end.number})
        end = end or _End(0, BEGINNING, 0)
        if _size(lines) != end.size or end.next_digest:
            end, aside = _mended(home, end)
            if aside:
                end = _write(home, key, end, PUT_ASIDE, {"bytes": aside})
        _write(home, key, end, what, about)


@contextmanager
def work(home: Path, what: str, **about: Any) -> Iterator[Callable[..., None]]:
    """Notes that work began and how it ended; what is yielded takes, by name, what is to be said of what came of it."""
    made: dict[str, Any] = {}
    note(home, f"{what} started", **about)
    try:
        yield made.update
    except (Cancelled, Stopped, KeyboardInterrupt):
        note(home, f"{what} cancelled", **about)
        raise
    except BaseException as error:
        # Why the work failed matters more than that it could not be noted.
        with suppress(StoreError):
            note(home, f"{what} failed", **about, error=type(error).__name__)
        raise
    note(home, f"{what} finished", **about, **made)


def read(home: Path, most: int | None = None) -> list[Event]:
    """The events, the latest first; lines that are none are left out (see `verify`)."""
    if not (home / LINES).is_file():
        return []
    lines = (home / LINES).read_bytes().split(b"\n")
    found = [event for line in reversed(lines[-most - 1 :] if most else lines) if (event := _event(line)) is not None]
    return found[:most]


def describe(event: Event) -> str:
    """What an event is about, on one line: of a list the first three."""
    return "; ".join(
        f"{name} {', '.join(values[:3])}{' …' if len(values) > 3 else ''}" for name, values in subjects(event).items()
    )


def subjects(event: Event) -> dict[str, list[str]]:
    """What an event is about, by name, whole; keys by their first 12 digits."""
    found = {}
    for name, value in event.about.items():
        values = value if isinstance(value, list) else [value]
        found[name.replace("_", " ")] = [text[:12] if KEY.fullmatch(text) else text for text in map(str, values)]
    return {name: values for name, values in found.items() if values}


def verify(home: Path, marks: tuple[str, ...] = ()) -> Verdict:
    """Checks every line, and the end.

    Args:
        marks: `Verdict.mark` of earlier checks: these lines must still be the same.
    Raises:
        ConfigError: a mark is none.
    """
    noted = dict(_read_mark(mark) for mark in marks)
    with _locked(home):
        end = _read_end(home, SealingKey(installation_of(home)))
        content = (home / LINES).read_bytes() if (home / LINES).is_file() else b""
    *lines, half = content.split(b"\n")
    faults: list[tuple[int, str]] = []
    digests: dict[int, str] = {0: BEGINNING}
    number = 0
    for at, line in enumerate(lines, 1):
        event = _event(line)
        if event is None:
            faults.append((at, "is no entry of this log"))
            number += 1
        else:
            faults += _faults_of(at, line, event, number, digests)
            number = event.number
        digests[number] = _digest(line)
    faults += _faults_at_the_end(len(lines), number, digests, end, half)
    for place, digest in noted.items():
        if not digests.get(place, "").startswith(digest):
            faults.append((place, "is not the one that was noted elsewhere, or something before it was changed"))
    last = max(digests)
    return Verdict(len(lines), sorted(set(faults)), f"{last}:{digests[last][:32]}")


def _faults_of(at: int, line: bytes, event: Event, number: int, digests: dict[int, str]) -> list[tuple[int, str]]:
    """What is wrong with a line, given the number and the digest of the one before it."""
    if event.what == RESEALED:
        return [(at, "says that the seal of the log was missing or broken: lines may be gone before it")]
    if event.number > number + 1:
        missing = f"entry {number + 1}" if event.number == number + 2 else f"entries {number + 1} to {event.number - 1}"
        return [(at, f"follows on a gap: {missing} missing")]
    if event.number <= number:
        return [(at, f"stands out of order: it says that it is entry {event.number}")]
    if json.loads(line)["before"] != digests[number]:
        return [(max(at - 1, 1), "was changed, or the one behind it was")]
    return []


def _faults_at_the_end(
    lines: int, number: int, digests: dict[int, str], end: _End | None, half: bytes
) -> list[tuple[int, str]]:
    if end is None:
        return [
            (lines, "is the last, and the seal of the log is missing or was not made with this installation's key")
        ][: bool(lines or half)]
    unsealed = number > end.number
    if unsealed and number == end.number + 1 and digests[number] == end.next_digest and not half:
        # The process died between writing the line and sealing it.
        return []
    found = []
    if unsealed or (half and number >= end.number):
        found.append((lines + bool(half), "stands behind the sealed end: a write that was cut short, or put there"))
    if number < end.number:
        found.append((lines, f"is the last, and entries {number + 1} to {end.number} were cut off behind it"))
    elif digests.get(end.number) != end.digest:
        found.append((lines, "was changed: it is not the one that was sealed"))
    return found


def _write(home: Path, key: SealingKey, end: _End, what: str, about: dict[str, Any]) -> _End:
    """Adds a line behind a sealed end, and seals the new one."""
    document = {
        "number": end.number + 1,
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "who": _who(home),
        "way": _way,
        "what": what,
        "about": about,
        "before": end.digest,
    }
    line = json.dumps(document, ensure_ascii=False).encode()
    # Sealed before it is written: whoever finds the line alone, or its seal alone, knows what happened.
    _seal(home, key, _End(end.number, end.digest, end.size, _digest(line)))
    with explained(home), open(os.open(home / LINES, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as stream:
        stream.write(line + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
        size = stream.tell()
    sealed = _End(end.number + 1, _digest(line), size)
    _seal(home, key, sealed)
    return sealed


def _mended(home: Path, end: _End) -> tuple[_End, int]:
    """(the end to go on from, bytes that were put aside) of a log whose file does not end where it was sealed."""
    lines = home / LINES
    content = lines.read_bytes() if lines.is_file() else b""
    rest = content[end.size :]
    if rest and rest.endswith(b"\n") and _digest(rest[:-1]) == end.next_digest:
        return _End(end.number + 1, end.next_digest, len(content)), 0
    with explained(home):
        if rest:
            with open(os.open(home / ASIDE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as stream:
                stream.write(rest + b"\n")
            os.truncate(lines, end.size)
        elif content and not content.endswith(b"\n"):
            # It was cut off within a line. The numbers go on, so that the gap stays to be seen.
            with lines.open("ab") as stream:
                stream.write(b"\n")
    return _End(end.number, end.digest, _size(lines)), len(rest)


def _end_of(content: bytes) -> _End:
    """The end of a log without a seal, as far as it can be told."""
    lines = content.split(b"\n")[:-1]
    numbers = [event.number for line in lines if (event := _event(line)) is not None]
    size = sum(len(line) + 1 for line in lines)
    return _End(max(numbers, default=0), _digest(lines[-1]) if lines else BEGINNING, size)


def _seal(home: Path, key: SealingKey, end: _End) -> None:
    stated = f"memberscope log 1; {end.number}; {end.digest}; {end.size}; {end.next_digest}"
    with explained(home):
        write_whole(home / SEAL, json.dumps({"stated": stated, "signature": key.sign(stated.encode())}))


def _read_end(home: Path, key: SealingKey) -> _End | None:
    """The sealed end; None where there is none that this installation sealed."""
    try:
        document = json.loads((home / SEAL).read_text(encoding="utf-8"))
        stated = str(document["stated"])
        if not key.has_signed(stated.encode(), str(document["signature"])):
            return None
        _, number, digest, size, following = stated.split("; ")
        return _End(int(number), digest, int(size), following)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _event(line: bytes) -> Event | None:
    try:
        document = json.loads(line)
        before = document.pop("before")
        event = Event(**document)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    whole = isinstance(event.number, int) and isinstance(event.about, dict) and isinstance(before, str)
    return (
        event if whole and all(isinstance(text, str) for text in (event.at, event.who, event.way, event.what)) else None
    )


def _read_mark(text: str) -> tuple[int, str]:
    found = MARK.fullmatch(text.strip().lower())
    if found is None:
        raise ConfigError(
            f"{text[:80]!r} is no mark; a mark is NUMBER:HASH, such as {EXAMPLE_MARK}. A check shows it behind what it found "
            "('Check every line' on the page Log, or 'log --verify'); leave it out if none was noted before"
        )
    return int(found[1]), found[2]


def _who(home: Path) -> str:
    if home.parent.name == OWNERS and _way != "command line":
        return f"signed in {home.name}"
    try:
        return f"account {getpass.getuser()}"
    except (OSError, KeyError):
        # In a container the number may have no name.
        return f"account {os.getuid()}"


def _people_key(home: Path) -> bytes:
    return kept_secret(home / PEOPLE_KEY, lambda: os.urandom(32))


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    with explained(home):
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FileLock(home / LOCK, mode=0o600, timeout=LOCK_SECONDS)
        try:
            lock.acquire()
        except Timeout:
            raise StoreError(
                f"another process has been writing the log of {str(home)!r} for {LOCK_SECONDS:g} seconds; try again"
            ) from None
    try:
        yield
    finally:
        lock.release()
