"""Parts of one audit that can be done elsewhere: a model to train, a question to ask. What they make lies in the store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mia_core.audit import estimate
from mia_core.audit.exposures import exposures_of
from mia_core.audit.questions import MEASURED, Questions
from mia_core.audit.stages import Run
from mia_core.data.interactions import Interactions
from mia_core.data.prompts import Samples
from mia_core.errors import ClusterError, ConfigError, from_plain
from mia_core.experiment import Experiment, Runtime, named_paths, parse_experiment
from mia_core.machines.tasks import for_tasks, side_by_side
from mia_core.models.device import choose_device, use_threads
from mia_core.observe.views import LISTS
from mia_core.storage.store import Store
from mia_core.types import Silent

ROOT = Path(__file__).parents[2]
LOOK_SECONDS = 0.2
TARGET, WORLD, START = "target", "shadow_world", "student start"
"""Models beside those that a view is named after."""


@dataclass(frozen=True)
class Errand:
    """One part of an audit, as plain data."""

    experiment: dict[str, Any]
    """Its precision settled."""
    interactions: str
    """Content key of the data, which are in the store."""
    runtime: Runtime
    model: str = ""
    """To be trained, if any."""
    question: str = ""
    """The view, list or signal that everybody's windows are asked for, if any."""


def models(run: Run, needs: Sequence[str]) -> list[list[str]]:
    """Names of all models that the needs ask about; those of one group rest on the groups before, not on each other."""
    worlds = [WORLD] if "shadow_world" in needs else []
    starts = [START] if estimate.STUDENTS & {need.partition("/")[0] for need in needs} else []
    views: dict[str, None] = {}
    for need in needs:
        if need not in (*LISTS, *MEASURED, "shadow_world"):
            model = need.partition("/")[0]
            found = estimate.views(run.experiment, model)
            # What is trained together is one model to wait for.
            together = model == "trajectory" or (model == "shadows" and estimate.shadows_together(run.experiment))
            views |= dict.fromkeys(found[:1] if together else found)
    return [[TARGET], [*worlds, *starts], [view for view in views if view != TARGET]]


def make(run: Run, name: str) -> None:
    """Trains, or finds in the store, one model."""
    if name == TARGET:
        if run.experiment.kind == "recommender":
            _ = exposures_of(run).target
        elif run.served is None:
            _ = run.target
    elif name == WORLD:
        exposures = exposures_of(run)
        _ = exposures.item_vectors, exposures.shadow
    elif name == START:
        _ = run.student_start
    else:
        run.view_model(name)


def ask(questions: Questions, name: str, samples: Samples) -> Any:
    """What one view, list or signal says about the samples."""
    if name in LISTS:
        return questions.recommended(name, samples)
    return questions.measured(name, samples) if name in MEASURED else questions.observe(name, samples)


def make_each(run: Run, names: Sequence[str]) -> None:
    """Makes models that do not rest on each other; where others take part, all of them at once."""
    arrivals = _sent(run, names, make, "model")
    for name in names:
        arrival = arrivals.get(name)
        if arrival is None and _jointly(run, name) and run.lacks(lambda one, name=name: make(one, name)):  # type: ignore[misc]
            arrival = partial(_train_jointly, run, name)
        with run.expecting(arrival):
            make(run, name)


def _jointly(run: Run, name: str) -> bool:
    """Whether several processes train a model: by gradients that they can bring together, as those of one sample each are
    not, nor those of several adapters at once."""
    if run.runtime.processes == 1 or run.experiment.kind != "language" or name == WORLD:
        return False
    alike = name == TARGET or name.startswith("shadow")
    private = alike and any(one.privacy is not None for one in run.defenses)
    return not private and not (name.startswith("shadow") and estimate.shadows_together(run.experiment))


def _train_jointly(run: Run, name: str) -> None:
    """Has several processes train a model; it lies in the store then.

    Raises:
        ClusterError: one of them ended before its time, and whatever error of ours they meet.
    """
    count = run.runtime.processes
    alone = {"processes": 1, "backend": "local", "device": run.device.type, "threads": run.runtime.threads or 1}
    with tempfile.TemporaryDirectory() as folder:
        order = Path(folder) / "order.json"
        document = {
            "home": str(run.store.home),
            "experiment": run.experiment.model_dump(mode="json"),
            "interactions": run.interactions.key,
            "runtime": run.runtime.model_copy(update=alone).model_dump(mode="json"),
            "model": name,
            "process": os.getpid(),
        }
        order.write_text(json.dumps(document), encoding="utf-8")
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
        path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part)
        process = subprocess.Popen(
            [sys.executable, *launcher, "-m", "mia_core.audit.joint", str(order)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
        )
        try:
            while process.poll() is None:
                time.sleep(LOOK_SECONDS)
        finally:
            # The launcher ends those that it started.
            process.terminate()
            process.wait()
        for told in sorted(Path(folder).glob("error *.json")):
            raise from_plain(json.loads(told.read_text(encoding="utf-8")))
        if process.returncode:
            raise ClusterError(
                f"one of {count} processes that trained a model together ended before its time, often for lack of memory; what "
                "was finished is kept: give them more, share the weights out (sharded = true), or set processes = 1"
            )


def send_questions(run: Run, names: Sequence[str]) -> dict[str, Callable[[], None]]:
    """Has others, where any take part, ask what is not known yet of everybody; what waits for each answer, by name."""
    # Lists of items are ranked faster than they are sent, and those that were brought along are there.
    worth = [name for name in names if name not in LISTS or (run.experiment.kind == "language" and run.served is None)]
    return _sent(run, worth, lambda one, name: ask(Questions(one), name, one.samples), "question")


def _sent(
    run: Run, names: Sequence[str], find: Callable[[Run, str], object], part: str
) -> dict[str, Callable[[], None]]:
    if run.submit is None:
        return {}
    plain = run.experiment.model_dump(mode="json")
    runtime = for_tasks(run.runtime)
    return {
        name: run.submit(do, Errand(plain, run.interactions.key, runtime, **{part: name}))
        for name in names
        if run.lacks(lambda one, name=name: find(one, name))  # type: ignore[misc]
    }


def stays_here(experiment: Experiment, store: Store) -> bool:
    """Whether an audit needs what was uploaded, which is on this machine alone."""
    return any(path.is_relative_to(store.home) for path in named_paths(experiment).values())


@contextmanager
def others(run: Run) -> Iterator[None]:
    """Has the machines of a cluster take part within the block, where the runtime names one."""
    if run.runtime.backend == "local" or stays_here(run.experiment, run.store):
        yield
        return
    with side_by_side(run.store, run.runtime) as submit:
        run.submit = submit
        yield
        run.submit = None


def run_elsewhere(experiment: dict[str, Any], interactions: str, runtime: Runtime, store: Store) -> Run:
    """The run of an audit in another process, on data that whoever sent it has kept.

    Raises:
        ConfigError: a file or folder that the config names is not on this machine.
    """
    config = parse_experiment(experiment)
    for setting, path in named_paths(config).items():
        if not path.exists():
            raise ConfigError(
                f"{setting} is {str(path)!r}, which is not on every machine of the cluster; put it at the same place on each, or "
                "choose backend = 'local'"
            )
    folder = store.find(interactions)
    assert folder is not None, "whoever sends work keeps its data first"  # noqa: S101
    if runtime.threads:
        use_threads(runtime.threads)
    device = choose_device(runtime.device)
    return Run(config, Interactions.read(folder), store, Silent(), device, runtime=runtime)


def do(errand: Errand, store: Store) -> None:
    """Does a part of an audit: in another process, or on another machine."""
    run = run_elsewhere(errand.experiment, errand.interactions, errand.runtime, store)
    if errand.model:
        make_each(run, [errand.model])
    if errand.question:
        ask(Questions(run), errand.question, run.samples)
