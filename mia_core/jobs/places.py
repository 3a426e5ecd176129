"""How many jobs run at once on this machine, whoever they belong to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mia_core.limits import AT_ONCE
from mia_core.storage.store import installation_of

POLL_SECONDS = 0.5


@contextmanager
def place(home: Path) -> Iterator[None]:
    """Waits for one of the machine's places for jobs and keeps it; a process that dies gives its place back.

    Args:
        home: of whose job it is. Those who signed in to one server share its places.
    """
    folder = installation_of(home) / "places"
    locks = [FileLock(folder / f"{number}.lock", timeout=0, mode=0o600) for number in range(AT_ONCE.most)]
    if not locks:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    while True:
        for lock in locks:
            try:
                lock.acquire()
            except Timeout:
                continue
            try:
                yield
            finally:
                lock.release()
            return
        time.sleep(POLL_SECONDS)
