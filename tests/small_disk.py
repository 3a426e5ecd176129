"""A real disk of a few megabytes, to be filled to its last byte or made read-only."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """Mounts it; the test is skipped where nothing may be mounted."""
    mounted = folder / "disk"
    mounted.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={size},mode=700", "none", str(mounted)]
    try:
        made = subprocess.run(["mount", *options], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        made = False
    if not made:
        pytest.skip("a disk of its own can be mounted by root alone")
    yield mounted
    subprocess.run(["umount", "--lazy", str(mounted)], check=True)


def fill(disk: Path, leaving: int = 0) -> Path:
    """Takes all the room there is, or all but so many bytes; the file that took it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(4_096))
        except OSError:
            stream.truncate(filler.stat().st_size - leaving)
    return filler


def make_read_only(disk: Path) -> None:
    """Nothing can be written there from now on."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
