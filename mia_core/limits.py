"""How much one owner may ask of a server at once, so that nobody stops it for the rest; environment variables set it.

An owner is whoever signed in; where nobody has to, all who reach the server are one.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass

from mia_core.errors import ConfigError, LimitReached

MINUTE = 60.0
MEGABYTE, GIGABYTE = 2**20, 2**30


@dataclass(frozen=True)
class Limit:
    """One limit; 0 in its variable takes it away."""

    variable: str
    usual: int

    @property
    def most(self) -> int:
        """What is allowed here; 0: anything.

        Raises:
            ConfigError: the variable holds no whole number from 0 on.
        """
        text = os.environ.get(self.variable, str(self.usual))
        if not (text.isascii() and text.isdigit()):
            raise ConfigError(f"{self.variable} is {text!r}; it must be a whole number, 0 for no limit")
        return int(text)

    def passed_by(self, amount: float) -> bool:
        """Whether so much is too much."""
        return 0 < self.most < amount


JOBS = Limit("MIA_MOST_JOBS", 50)
"""Jobs of one owner that wait or run."""
UPLOADED = Limit("MIA_MOST_UPLOADED_MB", 2_000)
"""Megabytes that one owner has uploaded and not yet saved or taken away."""
KEPT = Limit("MIA_MOST_KEPT_GB", 200)
"""Gigabytes that one owner's data, handed-in lists, models and results take before no more are made."""
AT_ONCE = Limit("MIA_JOBS_AT_ONCE", 1)
"""Jobs that run at once on the machine, whoever they belong to."""
LOOKUPS = Limit("MIA_LOOKUPS_PER_MINUTE", 60)
"""Lookups of one owner in a minute: people, lists of people, pasted histories; each question is one."""


def check_settings() -> None:
    """Refuses settings that are no limits, before work begins that could not go on without them.

    Raises:
        ConfigError: a variable holds no whole number from 0 on.
    """
    for limit in (JOBS, UPLOADED, KEPT, LOOKUPS, AT_ONCE):
        _ = limit.most


def check_jobs(active: int) -> None:
    """Refuses one more job where so many wait or run.

    Raises:
        LimitReached: what the limit is and what to do.
    """
    if JOBS.passed_by(active + 1):
        raise LimitReached(
            f"{active} jobs wait or run already, and {JOBS.most} is the limit; wait until some are finished or cancel some, or "
            f"ask whoever runs the server to raise {JOBS.variable}"
        )


def check_uploads(kept: int, arriving: int) -> None:
    """Refuses files that would make what was uploaded and not saved too much.

    Args:
        kept: bytes that lie here already.
        arriving: bytes of the new files.
    Raises:
        LimitReached: what the limit is and what to do.
    """
    if UPLOADED.passed_by((kept + arriving) / MEGABYTE):
        raise LimitReached(
            f"{kept / MEGABYTE:,.0f} MB of uploads were not saved as data sets yet; with another {arriving / MEGABYTE:,.0f} MB "
            f"they would pass the limit of {UPLOADED.most:,} MB. Save or take away what lies there, or ask whoever runs the "
            f"server to raise {UPLOADED.variable}"
        )


def check_kept(size: int) -> None:
    """Refuses to make more where what there is takes too much.

    Args:
        size: bytes of everything that is kept.
    Raises:
        LimitReached: what the limit is and what to do.
    """
    if KEPT.passed_by(size / GIGABYTE):
        raise LimitReached(
            f"data, handed-in lists, models and results take {size / GIGABYTE:,.1f} GB, and {KEPT.most:,} GB is the limit; "
            "delete audits or data sets that are no longer needed (the pages Results and Data, or the command retention), or ask "
            f"whoever runs the server to raise {KEPT.variable}"
        )


class Turnstile:
    """Lets each owner through so many times a minute."""

    def __init__(self, limit: Limit, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._what = what
        self._clock = clock
        self._passed: defaultdict[str, deque[float]] = defaultdict(deque)
        self._lock = threading.Lock()

    def enter(self, owner: str) -> None:
        """Counts one more.

        Raises:
            LimitReached: how long to wait.
        """
        with self._lock:
            now, passed = self._clock(), self._passed[owner]
            while passed and now - passed[0] >= MINUTE:
                passed.popleft()
            if self._limit.passed_by(len(passed) + 1):
                wait = MINUTE - (now - passed[0])
                raise LimitReached(
                    f"{len(passed)} {self._what} within a minute are the limit; go on in {wait:.0f} seconds, or ask whoever "
                    f"runs the server to raise {self._limit.variable}"
                )
            passed.append(now)
