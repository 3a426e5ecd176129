"""Data larger than memory: seconds and peak memory of reading, splitting, profiling and thinning them.

    python benchmarks/large_data.py [--rows 1e8] [--users 1e6] [--format parquet]
    python benchmarks/large_data.py --rows 2e7 --users 1e6 --observe   # and ask a small T5 about each of them
    python benchmarks/large_data.py --people 1e6   # what the Users page asks of a finished audit of so many

The rows are invented: people whose histories follow one another in no order, a few items with most interactions. Each step runs
in a process of its own with two threads, so that its memory is its own (libraries included); none may take more than 4 GB.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet
from large_audit import LEAD, NAMES, write_large_audit

from mia_core.data import library
from mia_core.data.formats import load
from mia_core.data.profile import profile
from mia_core.data.prompts import audit_samples, events_by_user, prompt_writer
from mia_core.data.split import Split, split_users
from mia_core.data.thinning import thin
from mia_core.experiment import Base, Prompt
from mia_core.report import people
from mia_core.report.results import read_result, read_table
from mia_core.storage.store import Store
from mia_core.types import Role

PART = 1_000_000
MOST_GIGABYTES = 4.0
THREADS = {"POLARS_MAX_THREADS": "2", "OMP_NUM_THREADS": "2"}


def generate(path: Path, rows: int, users: int) -> None:
    """Writes interactions in pieces of a million: Parquet, or CSV by the file's name."""
    rng = np.random.default_rng(0)
    items = max(1_000, users // 10)
    writer = None
    with path.open("wb") as stream:
        for start in range(0, rows, PART):
            n = min(PART, rows - start)
            part = pl.DataFrame(
                {
                    "user": rng.integers(users, size=n),
                    "item": (items * rng.random(n) ** 3).astype(np.int64),
                    "rating": rng.integers(1, 11, size=n) / 2,
                    "timestamp": 1_400_000_000 + rng.integers(200_000_000, size=n),
                }
            )
            if path.suffix == ".csv":
                part.write_csv(stream, include_header=not start)
            else:
                writer = writer or pyarrow.parquet.ParquetWriter(stream, part.to_arrow().schema)
                writer.write_table(part.to_arrow())
        if writer is not None:
            writer.close()


def ingest(store: Store, source: Path) -> str:
    """Reads, checks, orders and keeps the data; says under which key."""
    return library.save(store, load(source), "large")


def _kept(store: Store) -> str:
    return library.saved(store)[0].key


def split(store: Store, source: Path) -> str:
    """Draws a role for everybody, writes the manifest and reads it again."""
    drawn = split_users(library.load_saved(store, _kept(store)), 0.2, 0.5, 1 / 3, 0)
    with tempfile.TemporaryDirectory() as folder:
        drawn.write(Path(folder))
        return f"{len(Split.read(Path(folder)).roles):,} users"


def describe(store: Store, source: Path) -> str:
    """All that the Data page shows."""
    found = profile(library.load_saved(store, _kept(store)))
    return f"{found.summary['interactions']:,} interactions, {found.popularity.height + found.months.height} marks"


def sample(store: Store, source: Path) -> str:
    """A tenth of the people, as an audit reads them that was told to (data.thin.keep_users)."""
    found = thin(library.load_saved(store, _kept(store)), 0, keep_users=0.1)
    return f"{found.frame.height:,} interactions"


def look_at_people(store: Store, source: Path) -> str:
    """A search, a page of what it finds, and all that is shown of one person."""
    entry = store.entries("audit")[0]
    result = read_result(entry.path)
    names = people.columns_of(LEAD, list(pl.read_parquet_schema(entry.path / "users.parquet")))
    told = []

    def timed(what: str, ask: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        found = ask()
        told.append(f"{what} {time.perf_counter() - started:.2f} s")
        return found

    users = timed("read", lambda: read_table(entry.path, "users", list(names)).rename(names))
    found = timed("search", lambda: people.find_users(users, people.Search(has="77")))
    user = people.page_of(found, 3)[0]["user"][0]
    row = timed("one user", lambda: people.one_user(entry.path, user))
    timed("attacks", lambda: people.said_by_attacks(entry.path, result, row))
    timed("beside others", lambda: people.scores_beside(entry.path, LEAD, user, Role.AUDITED_MEMBER))
    timed("tokens", lambda: people.tokens_of(entry.path, user))
    return ", ".join(told)


def make_people(store: Store, source: Path) -> str:
    """An audit of invented users; what it takes says nothing of the product."""
    write_large_audit(store, int(source.name), attacks=NAMES[:4])
    return f"{int(source.name):,} users"


def _observations(store: Store) -> Path:
    return store.home / "observations"


def ask(store: Store, source: Path) -> str:
    """Puts a window of everybody into words, asks the demonstration's model about it, and writes the answers in shards."""
    # Not above: the other steps shall not hold what only this one needs.
    import torch

    from mia_core.models.llm.loading import build_offline, train_tokenizer
    from mia_core.observe.observations import observe_in_shards, write_shards

    interactions = library.load_saved(store, _kept(store))
    writer = prompt_writer(interactions, Prompt(history=5), [])
    samples = audit_samples(interactions.users.to_list(), events_by_user(interactions, writer), writer, 1)
    tokenizer = train_tokenizer(interactions.items["title"].to_list(), writer.literals, 1_000)
    model = build_offline(Base(width=64, layers=4), tokenizer, 0, torch.device("cpu"))
    _observations(store).mkdir()
    write_shards(observe_in_shards(model, samples.prompts, samples.answers), _observations(store))
    size = sum(path.stat().st_size for path in _observations(store).iterdir())
    return f"{len(samples):,} windows of {len(samples.users):,} users, {size / 1e9:.2f} GB of observations"


def score(store: Store, source: Path) -> str:
    """Reads the answers and scores everybody by the loss, which is what the simplest attack does."""
    from mia_core.observe.observations import Observations

    observed = Observations.read(_observations(store))
    scores = observed.sample_mean("log_probability")
    return f"{len(scores):,} scores, {observed.hidden.nbytes / 1e9:.2f} GB of hidden vectors left on the disk"


STEPS: dict[str, Callable[[Store, Path], str]] = {
    "ingest": ingest,
    "split": split,
    "profile": describe,
    "sample": sample,
}
OBSERVE: dict[str, Callable[[Store, Path], str]] = {"ask": ask, "score": score}
PEOPLE: dict[str, Callable[[Store, Path], str]] = {"make": make_people, "look": look_at_people}


def measured(step: str, home: Path, source: Path) -> dict[str, float | str]:
    """Seconds, memory and outcome of one step, in a process of its own."""
    command = [sys.executable, __file__, "--step", step, "--home", str(home), "--source", str(source)]
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, **THREADS, "PYTHONPATH": paths, "TMPDIR": str(home.parent)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    found: dict[str, float | str] = json.loads(done.stdout)
    return found


def main() -> int:
    """Prints seconds and peak memory of each step; returns 1 where one took more than it may."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=float, default=1e8)
    parser.add_argument("--users", type=float, default=0, help="a hundredth of the rows by default")
    parser.add_argument("--observe", action="store_true", help="ask a model about everybody, too")
    parser.add_argument("--people", type=float, help="users of a finished audit, instead")
    parser.add_argument("--format", choices=("parquet", "csv"), default="parquet")
    parser.add_argument("--folder", type=Path, help="for the files; a temporary one by default")
    parser.add_argument("--step", choices=[*STEPS, *OBSERVE, *PEOPLE], help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--source", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        started = time.perf_counter()
        told = (STEPS | OBSERVE | PEOPLE)[arguments.step](Store(arguments.home), arguments.source)
        seconds = time.perf_counter() - started
        gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        figures = {"seconds": seconds, "computing": time.process_time(), "gigabytes": gigabytes}
        print(json.dumps({"told": told, **figures}))
        return 0
    over = 0
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        if arguments.people:
            source, steps = Path(folder) / f"{int(arguments.people)}", list(PEOPLE)
        else:
            source, steps = (
                Path(folder) / f"large.{arguments.format}",
                [*STEPS, *(OBSERVE if arguments.observe else ())],
            )
            generate(source, int(arguments.rows), int(arguments.users or arguments.rows / 100))
            print(
                f"{int(arguments.rows):,} rows, {source.stat().st_size / 1e9:.2f} GB of {arguments.format}", flush=True
            )
        for step in steps:
            found = measured(step, Path(folder) / "home", source)
            over += float(found["gigabytes"]) > MOST_GIGABYTES and step != "make"
            print(
                f"{step:10}{found['seconds']:8.1f} s{found['computing']:8.1f} s computing{found['gigabytes']:8.2f} GB   "
                f"{found['told']}",
                flush=True,
            )
    return 1 if over else 0


if __name__ == "__main__":
    raise SystemExit(main())
