"""Runs hostile cases by the thousand, each within limits of time and memory, and any one of them again by its number.

A case is a function of its number alone. Cases run one after the other in a worker process that may hold no more than
`MEMORY` beyond what it holds at the start; a worker that dies, or takes longer than `SECONDS` over one case, is replaced, and
the case counts as a fault.

    python -m tests.campaigns.fuzzing layouts 1234      # this case alone, with its traceback
    python -m tests.campaigns.fuzzing layouts 0 3000    # a whole part
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Timer

from mia_core.errors import MemberScopeError

Case = Callable[[int, Path], object]
"""Runs the case of a number in an empty folder; what it refuses, it refuses by a `MemberScopeError`."""

MODULE = "tests.campaigns.fuzzing"
MEMORY = 2**30
SECONDS = 20.0
START_SECONDS = 300.0
"""Until a worker has imported what it needs and runs its first case."""
CASES = 200
"""That one worker runs, before a new one goes on."""
LONGEST_LINE = 1_000
"""Letters of a line of a message: beyond that it repeats what it was given."""


@dataclass(frozen=True)
class Outcome:
    """What became of one case."""

    number: int
    ending: str
    """accepted, refused, or fault."""
    words: str
    """The message of a refusal, or what the fault is."""
    seconds: float
    peak: int
    """Bytes that the worker held at most while the case ran."""


@dataclass
class Tally:
    """What became of the cases of one part."""

    part: str
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """The cases that were neither accepted nor refused, each with the command that runs it again."""
        return [
            f"{one.words}\n    again: {_command(self.part, one.number)}"
            for one in self.outcomes
            if one.ending == "fault"
        ]

    def summary(self) -> str:
        """One line of figures."""
        endings = Counter(one.ending for one in self.outcomes)
        slowest = max(self.outcomes, key=lambda one: one.seconds)
        largest = max(self.outcomes, key=lambda one: one.peak)
        return (
            f"{self.part}: {len(self.outcomes):,} cases, {endings['accepted']:,} accepted, {endings['refused']:,} refused, "
            f"{endings['fault']:,} faults; slowest {slowest.seconds:.2f} s (case {slowest.number}), "
            f"most memory {largest.peak / 2**20:.0f} MiB (case {largest.number})"
        )


def run_part(part: str, first: int, last: int) -> Tally:
    """Runs the cases ``first`` to ``last - 1`` of a part."""
    tally = Tally(part)
    while first < last:
        for outcome in _outcomes_of_worker(part, first, min(last, first + CASES)):
            tally.outcomes.append(outcome)
            first = outcome.number + 1
    return tally


def _outcomes_of_worker(part: str, first: int, last: int) -> Iterator[Outcome]:
    """What a worker says of its cases; if it ends early, the case that ended it comes last."""
    told = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "HYPOTHESIS_NO_PLUGINS": "1", "RUST_BACKTRACE": "0"}
    with tempfile.TemporaryFile() as said:
        worker = subprocess.Popen(
            [sys.executable, "-m", MODULE, part, str(first), str(last), "--worker"],
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, **told},
        )
        expected, began = first, time.monotonic()
        timer = _killing(worker, START_SECONDS)
        assert worker.stdout is not None
        ready = False
        for line in worker.stdout:
            timer.cancel()
            ready = True
            if line.startswith("{"):
                outcome = Outcome(**json.loads(line))
                expected, began = outcome.number + 1, time.monotonic()
                yield outcome
            timer = _killing(worker, SECONDS)
        timer.cancel()
        code = worker.wait()
        if expected < last:
            said.seek(0, os.SEEK_END)
            said.seek(max(0, said.tell() - 2_000))
            seconds = time.monotonic() - began
            words = f"the worker ended with code {code} after {seconds:.1f} s: {said.read().decode(errors='replace')}"
            if not ready:
                raise RuntimeError(words)
            yield Outcome(expected, "fault", words, seconds, 0)


def _killing(worker: subprocess.Popen[str], seconds: float) -> Timer:
    timer = Timer(seconds, worker.kill)
    timer.daemon = True
    timer.start()
    return timer


def _work(part: str, first: int, last: int) -> None:
    """What a worker does: runs cases and tells of each in one line of JSON."""
    report = os.fdopen(os.dup(1), "w", buffering=1)
    # What libraries print is no report.
    os.dup2(2, 1)
    case = prepared(part, range(first, last))
    held = _status("VmData")
    resource.setrlimit(resource.RLIMIT_DATA, (held + MEMORY, held + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    report.write("ready\n")
    for number in range(first, last):
        report.write(json.dumps(asdict(_tried(case, number))) + "\n")


def _tried(case: Case, number: int) -> Outcome:
    Path("/proc/self/clear_refs").write_text("5")
    began, words = time.monotonic(), ""
    with tempfile.TemporaryDirectory() as folder:
        try:
            case(number, Path(folder))
            ending = "accepted"
        except MemberScopeError as error:
            words = str(error)
            ending = "refused" if _explains(words) else "fault"
        except KeyboardInterrupt:
            raise
        except BaseException:
            # Libraries in Rust end with something that is no Exception.
            ending, words = "fault", traceback.format_exc(limit=-6)[-2_000:]
        seconds, peak = time.monotonic() - began, _status("VmHWM")
    if peak > MEMORY:
        ending, words = "fault", f"held {peak / 2**20:.0f} MiB. {words}"
    return Outcome(number, ending, words, seconds, peak)


def _explains(words: str) -> bool:
    """Whether a message has something to say and does not repeat at length what it was given."""
    return len(words) > 20 and all(len(line) <= LONGEST_LINE for line in words.split("\n"))


def _status(name: str) -> int:
    """Bytes, by the kernel's account of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


def prepared(part: str, numbers: range) -> Case:
    """The cases of a part, with everything that they need in memory."""
    # One after the other, so that a worker starts without what other parts need.
    for name in ("bombs", "hostile_uploads", "hostile_configs"):
        parts: dict[str, Callable[[range], Case]] = importlib.import_module(f"tests.campaigns.{name}").PARTS
        if part in parts:
            return parts[part](numbers)
    raise LookupError(part)


def _command(part: str, number: int) -> str:
    return f"python -m {MODULE} {part} {number}"


def main(part: str, first: str, last: str = "", worker: str = "") -> None:
    """See the head of this module."""
    if worker:
        _work(part, int(first), int(last))
    elif last:
        tally = run_part(part, int(first), int(last))
        print("\n".join([*tally.faults, tally.summary()]))  # noqa: T201
    else:
        case = prepared(part, range(int(first), int(first) + 1))
        with tempfile.TemporaryDirectory() as folder:
            try:
                case(int(first), Path(folder))
                print("accepted")  # noqa: T201
            except MemberScopeError as error:
                print(f"refused: {error}")  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
