"""Clicks to sessions: seconds and memory for 26 million rows, against the plain pandas way on a tenth of them.

    python benchmarks/ingest.py [--rows 26000000]

The rows are made up in the layout of YooChoose and go through `formats.load` and `sessions`, like any file of a user. Each
way runs in a process of its own with two threads, so that its memory is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl

from mia_core.data.formats import load
from mia_core.data.sessions import sessions

PART = 1_000_000
ITEMS = 52_000
THREADS = {"POLARS_MAX_THREADS": "2", "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}


def generate(path: Path, rows: int) -> None:
    """Writes clicks: sessions of about four, a few items with most clicks, some items clicked twice in a row."""
    rng = np.random.default_rng(0)
    last = 0
    with path.open("wb") as stream:
        for start in range(0, rows, PART):
            n = min(PART, rows - start)
            begins = rng.random(n) < 0.28
            begins[0] = True
            session = np.cumsum(begins)
            item = (ITEMS * rng.random(n) ** 3).astype(np.int64)
            item = np.where(rng.random(n) < 0.1, np.roll(item, 1), item)
            elapsed = np.cumsum(rng.integers(1_000, 200_000, size=n))
            begun = 1_396_000_000_000 + rng.integers(0, 180 * 86_400_000, size=session[-1])
            moment = begun[session - 1] + elapsed - elapsed[begins][session - 1]
            times = pl.Series(moment).cast(pl.Datetime("ms")).dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
            clicks = {"session": session + last, "timestamp": times, "item": 214_500_000 + 7 * item, "category": 0}
            pl.DataFrame(clicks).write_csv(stream, include_header=False)
            last += int(session[-1])


def ours(path: Path) -> tuple[int, int]:
    """Sessions and items in them, the product's way."""
    found = sessions(load(path))
    return found.frame["user"].n_unique(), found.frame.height


def with_pandas(path: Path) -> tuple[int, int]:
    """Sessions and items in them, as a notebook would."""
    clicks = pd.read_csv(path, names=["session", "timestamp", "item", "category"], dtype={"session": str, "item": str})
    clicks["timestamp"] = pd.to_datetime(clicks["timestamp"])
    clicks = clicks.sort_values(["session", "timestamp"], kind="stable")
    repeated = (clicks["item"] == clicks["item"].shift()) & (clicks["session"] == clicks["session"].shift())
    clicks = clicks[~repeated]
    clicks = clicks.groupby("session").tail(20)
    clicks = clicks[clicks.groupby("session")["item"].transform("size") >= 2]
    return clicks["session"].nunique(), len(clicks)


WAYS = {"ours": ours, "pandas": with_pandas}


def measured(way: str, path: Path) -> dict[str, float]:
    """Seconds, memory and result of one way, in a process of its own."""
    command = [sys.executable, __file__, "--way", way, "--file", str(path)]
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(command, check=True, capture_output=True, env={**os.environ, **THREADS, "PYTHONPATH": paths})
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Prints seconds, peak memory and the ratio of rows per second."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=26_000_000)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        started = time.perf_counter()
        kept, items = WAYS[arguments.way](arguments.file)
        seconds = time.perf_counter() - started
        gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({"sessions": kept, "items": items, "seconds": seconds, "gigabytes": gigabytes}))
        return
    rates = {}
    with tempfile.TemporaryDirectory() as folder:
        for way, rows in (("ours", arguments.rows), ("ours", arguments.rows // 10), ("pandas", arguments.rows // 10)):
            path = Path(folder) / f"{rows}" / "yoochoose-clicks.dat"
            if not path.exists():
                path.parent.mkdir()
                generate(path, rows)
            found = measured(way, path)
            rates[way, rows] = rows / found["seconds"]
            print(
                f"{way}, {rows:,} rows: {found['seconds']:.1f} s, {found['gigabytes']:.2f} GiB at most, "
                f"{found['sessions']:,} sessions with {found['items']:,} items",
                flush=True,
            )
    (_, whole), (_, tenth), (_, plain) = rates.items()
    print(
        f"rows per second, ours : pandas: {tenth / plain:.1f} on the same rows, {whole / plain:.1f} with ten times as many"
    )


if __name__ == "__main__":
    main()
