"""Which process is which: by number and by when it was created, on a clock that nobody can set."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil


def created(pid: int) -> float:
    """Seconds from the machine's start to the creation of a process. Unlike a date, it stays when the clock is set.

    Raises:
        psutil.NoSuchProcess: there is none of that number.
    """
    try:
        # What follows the name, which may hold anything, even brackets.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        raise psutil.NoSuchProcess(pid) from None
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def living(pid: int, created_at: float | None) -> psutil.Process | None:
    """The process of that number, if it is the one created then and not a dead one nobody has collected."""
    try:
        if created_at is None or created(pid) != created_at:
            return None
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process
    except psutil.NoSuchProcess:
        return None


def end_group(pid: int, created_at: float | None) -> None:
    """Ends what a dead process that led a group left behind."""
    try:
        ours = created(pid) == created_at
    except psutil.NoSuchProcess:
        # As long as anybody of the group lives, nobody else gets its number.
        ours = True
    if ours:
        try:
            os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return
