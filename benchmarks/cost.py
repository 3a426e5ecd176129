"""How near the plan of an audit comes to what it takes, and what audits of millions of people would take.

    python benchmarks/cost.py [CONFIG …] [--data PATH] [--computing]   # by default the demo and what studies start from
    python benchmarks/cost.py --scale [CONFIG]   # 1, 10 and 100 million users, by this machine's measured throughput

Every config is planned on a fresh store once this machine was measured for it, and then run there, in a process of its own.
With --computing the seconds are those that the process computes, in measuring and in the run: on a machine that others use
too, a clock on the wall tells mostly of them. The placebo, which has a process of its own, is then left aside.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mia_core.audit import estimate
from mia_core.data.opening import open_interactions
from mia_core.experiment import Experiment, Runtime, load_experiment
from mia_core.pipeline import run_audit
from mia_core.planning import throughput
from mia_core.planning.capacity import device_kind, forecast, measured_rates
from mia_core.storage.store import Store
from mia_core.types import Silent

ASSETS = Path(__file__).parents[1] / "assets"
SHORT = ["demo.toml", "study.toml", "study_sequence.toml", "study_recommender.toml"]
USERS = (1_000_000, 10_000_000, 100_000_000)
SAMPLED = 100_000
"""Users who are drawn (data.thin.keep_users) where an audit does not ask about everybody."""
HISTORY = 100
"""Interactions of a user, on average."""
MACHINES = (1, 8, 64)
SHARED_OUT = ("Train", "Ask", "Measure")
"""Beginnings of the stages that several machines share: models by shadow, fold or batch, questions by shard."""


def planned_and_run(config: Path, data: str) -> dict[str, float]:
    """Plans and runs one config in a store of its own."""
    clock = throughput.CLOCK
    experiment = load_experiment(config, [f"data.path={json.dumps(data)}"] if data else [])
    with tempfile.TemporaryDirectory() as folder:
        store, runtime = Store(Path(folder)), Runtime()
        summary = open_interactions(experiment.data, experiment.seed, store).summary()
        began = clock()
        throughput.measure(experiment, store, runtime)
        measured = clock() - began
        found = forecast(store, experiment, summary, [])
        began, progress = clock(), Stages(clock)
        run_audit(experiment, store, progress, runtime)
        whole = clock() - began
        took = progress.took
        for stage in found.stages:
            print(f"  {stage.name:70}{stage.seconds:8.1f}{took.get(stage.name, 0):8.1f}", file=sys.stderr)
        return {"measuring": measured, "planned": found.seconds, "stages": sum(took.values()), "whole": whole}


class Stages(Silent):
    """How long each stage takes by some clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.took: dict[str, float] = {}

    def start(self, stage: str) -> None:
        self.took[stage] = -self.clock()

    def finish(self, stage: str, cached: bool) -> None:
        self.took[stage] += self.clock()


def compare(configs: list[Path], data: str, *, computing: bool) -> None:
    """Prints planned and measured seconds of each config."""
    print(f"{'config':26}{'measuring':>10}{'planned':>9}{'stages took':>13}{'planned / took':>16}{'whole run':>11}")
    for config in configs:
        command = [sys.executable, __file__, "--one", str(config), "--data", data, *["--computing"] * computing]
        paths = os.pathsep.join(path for path in sys.path if path)
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}, text=True
        )
        found = json.loads(done.stdout)
        print(
            f"{config.name:26}{found['measuring']:9.1f}s{found['planned']:8.1f}s{found['stages']:12.1f}s"
            f"{found['planned'] / found['stages']:16.2f}{found['whole']:10.1f}s",
            flush=True,
        )


def scale(config: Path) -> None:
    """Prints what audits of millions of users would take, everybody asked about or a sample."""
    experiment = load_experiment(config)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        throughput.measure(experiment, store, Runtime())
        rates = measured_rates(store, experiment, Runtime())
    assert rates is not None
    print(f"An estimate, from what this machine does with the model of {config.name}: {device_kind()}")
    print(
        f"{1 / rates.train:,.0f} windows learned and {1 / rates.observe:,.0f} asked about in a second; {HISTORY} interactions "
        f"a user, the settings of {config.name} otherwise."
    )
    print(f"{'users':>14}{'asked about':>14}{'bytes observed':>16}" + "".join(f"{n:>10} at once" for n in MACHINES))
    for users in USERS:
        for asked in (users, SAMPLED):
            hours = _hours(experiment, asked, rates)
            told = "".join(f"{hour:>13,.1f} h    " for hour in hours)
            print(f"{users:>14,}{asked:>14,}{_observed(experiment, asked) / 2**30:>14.1f}GB{told}")


def _hours(experiment: Experiment, users: int, rates: estimate.Rates) -> list[float]:
    """Hours on so many machines; the placebo, which is as much again, is among the stages."""
    alone = estimate.Rates(**{**vars(rates), "read": None, "beside": None})
    stages = estimate.plan(experiment, {"users": users, "interactions": users * HISTORY}, alone)
    shared = sum(stage.seconds for stage in stages if stage.name.startswith(SHARED_OUT) or stage.name == estimate.GATES)
    by_itself = sum(stage.seconds for stage in stages) - shared
    return [(shared / machines + by_itself) / 3_600 for machines in MACHINES]


def _observed(experiment: Experiment, users: int) -> float:
    """Bytes of all observations: one number a statistic and token, and a vector a layer and window."""
    views = sum(len(estimate.views(experiment, need)) for need in estimate.needs(experiment))
    scored = (1 - experiment.split.public_share) * users * experiment.prompt.windows
    hidden = 4 * experiment.base.layers * experiment.base.width
    return views * scored * (4 * 13 * estimate.SAID_OF_A_TITLE + 8 + hidden)


def main() -> None:
    """Compares plans with runs, or works out what large audits take."""
    parser = argparse.ArgumentParser()
    parser.add_argument("configs", nargs="*", type=Path, default=[ASSETS / name for name in SHORT])
    parser.add_argument("--data", default="", help="of configs that read a file or folder")
    parser.add_argument("--scale", action="store_true")
    parser.add_argument("--computing", action="store_true", help="count the seconds that a process computes")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.computing:
        throughput.CLOCK = time.process_time
    if arguments.one:
        print(json.dumps(planned_and_run(arguments.one, arguments.data)))
    elif arguments.scale:
        scale(arguments.configs[0])
    else:
        compare(arguments.configs, arguments.data, computing=arguments.computing)


if __name__ == "__main__":
    main()
