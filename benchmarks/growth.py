"""How the time of an audit grows with the number of users: 100 to 1,600, as a ratio to the smallest.

python benchmarks/growth.py
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from mia_core.experiment import parse_experiment
from mia_core.pipeline import run_audit
from mia_core.storage.store import Store

USERS = (100, 200, 400, 800, 1_600)


def main() -> None:
    """Runs one cold audit per size and prints seconds, seconds per user, and the ratio to linear growth."""
    first = 0.0
    for users in USERS:
        experiment = parse_experiment(
            {
                "data": {"synthetic": {"users": users, "items": 200}},
                "prompt": {"history": 5, "windows": 3},
                "base": {"width": 64, "vocabulary": 1_000},
                "evaluation": {"ranked_users": 0, "placebo": False},
            }
        )
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            run_audit(experiment, Store(Path(folder)))
            seconds = time.perf_counter() - started
        first = first or seconds / users
        print(
            f"{users} users: {seconds:.1f} s, {1_000 * seconds / users:.1f} ms per user, {seconds / users / first:.2f} of linear"
        )


if __name__ == "__main__":
    main()
