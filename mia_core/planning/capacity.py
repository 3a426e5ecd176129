"""How long an audit is likely to take on this very machine, how much memory it needs, and what that costs."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from mia_core.audit import estimate
from mia_core.audit.estimate import Rates
from mia_core.errors import MemberScopeError
from mia_core.experiment import Base, Experiment, Runtime, parse_experiment
from mia_core.keys import content_key
from mia_core.report.results import SHIPPED, AuditResult, read_result
from mia_core.storage.integrity import read_manifest
from mia_core.storage.store import Store
from mia_core.types import StagePlan

NEWEST = 10
"""Audits that the pace is taken from."""
LOOKED_AT = 50
"""The newest audits, among which those of a shape are looked for."""
SHORTEST = 1.0
"""Seconds of a stage that says something about the pace."""
FRESH = timedelta(days=90)
"""A measurement that is older than this is made again."""
GIGABYTE = 2.0**30
DEAREST = 10_000.0
"""What a machine may cost an hour, in any currency."""
PROCESS = 0.55 * GIGABYTE
"""Of a process that has loaded what trains and asks models; measured on Linux, CPU."""
NUMBER = 4.0
"""Bytes of a float32."""
TRAINED = 4.0
"""Numbers kept for each trained weight: itself, its gradient, and Adam's two means."""
PER_INTERACTION = 600.0
"""Bytes of one interaction, as a table and as an event of a history."""
PER_ANSWER_TOKEN = 60.0
"""Bytes of what one view says of one answer token."""
ANSWER_TOKENS = 6.0
"""Of a title, about."""
TOKENS_PER_ITEM = 7.0
"""Of a prompt, about: a title and what parts it from the next."""
ACTIVATIONS = 34.0
"""Numbers that one layer keeps for each token and unit of width while it learns, attention apart."""


@dataclass(frozen=True)
class Forecast:
    """What an audit is likely to take on this machine."""

    stages: list[StagePlan]
    """With the seconds that each is likely to take here."""
    basis: str
    """What the seconds rest on, in words."""
    measured: bool
    """Whether they rest on this machine's own work on audits of this shape."""

    @property
    def accuracy(self) -> str:
        """How near the seconds are likely to be, in words."""
        return "within 30% on a quiet machine" if self.measured else "a rough plan"

    @property
    def seconds(self) -> float:
        """Of all stages together; those that are in the store already take none."""
        return sum(stage.seconds for stage in self.stages)

    def money(self, price: float) -> float:
        """What it costs where the machine costs so much an hour."""
        return price * self.seconds / 3_600


@dataclass(frozen=True)
class PastAudit:
    """What a finished audit tells about this machine."""

    shape: str
    """See `shape_of`."""
    factor: float
    """Seconds that its stages took, of one planned on two CPU cores."""


def past_audits(store: Store) -> list[PastAudit]:
    """What the newest audits took on this machine, of what was planned."""
    entries = [entry for entry in store.entries("audit", "point") if not (entry.path / SHIPPED).is_file()]
    found = (_measured(read_result(entry.path)) for entry in entries[:LOOKED_AT])
    return [one for one in found if one is not None]


def forecast(
    store: Store,
    experiment: Experiment,
    summary: Mapping[str, Any],
    past: Sequence[PastAudit],
    runtime: Runtime | None = None,
) -> Forecast:
    """How long an audit is likely to take here, by the best that is known.

    That is, from the best down: what finished audits of the same shape took here, what was measured of this machine for
    that shape, what other audits took, and a plan for two CPU cores.

    Args:
        past: `past_audits` of the store.
    """
    stages, shape = estimate.plan(experiment, summary), shape_of(experiment)
    alike = [one.factor for one in past if one.shape == shape][:NEWEST]
    if alike:
        return _paced(stages, alike, " of this shape", measured=True)
    rates = measured_rates(store, experiment, runtime or Runtime())
    if rates is not None:
        basis = "From what this machine was measured to do in a second of the work of such an audit."
        return Forecast(estimate.plan(experiment, summary, rates), basis, measured=True)
    if past:
        return _paced(stages, [one.factor for one in past[:NEWEST]], "", measured=False)
    return Forecast(stages, "Planned on two CPU cores; this machine was not measured yet.", measured=False)


def _paced(stages: list[StagePlan], factors: Sequence[float], kind: str, *, measured: bool) -> Forecast:
    factor = median(factors)
    audits = f"1 audit{kind}" if len(factors) == 1 else f"{len(factors)} audits{kind}"
    basis = f"Planned on two CPU cores, times {factor:.2g}: so much did {audits} take on this machine."
    return Forecast([StagePlan(stage.name, factor * stage.seconds) for stage in stages], basis, measured)


def shape_of(experiment: Experiment) -> str:
    """The settings that decide how long one piece of work takes, however many there are: model, question, data."""
    target, views = experiment.target, experiment.views
    written = {"lists", "temperatures", "gradient", "self_prompted"} & set(estimate.needs(experiment))
    settings = {
        "base": experiment.base.model_dump(mode="json", exclude={"pretraining"}),
        "prompt": experiment.prompt.model_dump(mode="json"),
        "data": experiment.data.model_dump(mode="json"),
        "target": [target.source, target.path, target.tuning, target.lora.rank if target.tuning == "lora" else 0],
        "batch": [target.training.batch_size, target.training.accumulation],
        "recommender": experiment.recommender.model_dump(mode="json") if experiment.kind == "recommender" else None,
        "written": [sorted(written), views.list_length, views.answer_tokens],
    }
    return json.dumps(settings, sort_keys=True)


def throughput_key(experiment: Experiment, runtime: Runtime) -> str:
    """The key under which it is kept what this machine does in a second of the work of such an audit."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft")}
    settings = {"shape": shape_of(experiment), "placebo": estimate.wants_placebo(experiment), "versions": versions}
    machine = {"device": runtime.device, "threads": runtime.threads, "kind": device_kind()}
    return content_key("throughput", 1, {**settings, **machine})


@lru_cache(maxsize=1)
def device_kind() -> str:
    """What this machine computes with: its processor, how many cores of it are ours, and its GPUs."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8", errors="replace").splitlines() if told.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    gpus = [
        line.partition(":")[2].strip()
        for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.startswith("Model")
    ]
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    cores = len(os.sched_getaffinity(0))
    return f"{names[0] if names else platform.machine()}, {cores} cores, {gpus} ({shown})"


def measured_rates(store: Store, experiment: Experiment, runtime: Runtime) -> Rates | None:
    """What this machine was lately measured to do, see `mia_core.planning.throughput`; None: it was not."""
    key = throughput_key(experiment, runtime)
    folder = store.find(key)
    if folder is None:
        return None
    created = datetime.fromisoformat(read_manifest(folder, key)["created"])
    if datetime.now(UTC) - created > FRESH:
        return None
    return Rates(**json.loads((folder / "rates.json").read_text(encoding="utf-8")))


def _measured(result: AuditResult) -> PastAudit | None:
    try:
        experiment = parse_experiment(result.config)
        planned = {one.name: one.seconds for one in estimate.plan(experiment, result.data)}
    except MemberScopeError:
        # An audit of an earlier version, whose settings are no longer known.
        return None
    done = [stage for stage in result.stages if not stage.cached and planned.get(stage.name, 0) >= SHORTEST]
    if not done:
        return None
    factor = sum(stage.seconds for stage in done) / sum(planned[stage.name] for stage in done)
    return PastAudit(shape_of(experiment), factor)


@dataclass(frozen=True)
class Memory:
    """Memory that an audit needs at its peak, in bytes."""

    needed: float | None
    """None: the model is not here yet, so that its size is not known."""
    available: float
    """Of this machine, now."""

    @property
    def enough(self) -> bool:
        """Whether it is likely to fit."""
        return self.needed is None or self.needed <= self.available


def memory(experiment: Experiment, summary: Mapping[str, Any]) -> Memory:
    """What an audit needs at its peak: its process, the placebo's beside it, the model in training, and the observations.

    A rough figure: it leaves out what libraries keep for themselves.

    Args:
        summary: `Interactions.summary()`; users, items and interactions are read.
    """
    available = float(psutil.virtual_memory().available)
    users, interactions = float(summary["users"]), float(summary["interactions"])
    data = PER_INTERACTION * interactions
    if experiment.kind == "recommender":
        return Memory(PROCESS + data + _dense_lists(experiment, users, float(summary["items"])), available)
    weights = _weights(experiment, float(summary["items"]))
    if weights is None:
        return Memory(None, available)
    window = experiment.prompt.history + 1
    windows = users * min(experiment.prompt.windows, max(1.0, interactions / max(1.0, users) / window))
    views = sum(len(estimate.views(experiment, need)) for need in estimate.needs(experiment))
    observed = views * windows * ANSWER_TOKENS * PER_ANSWER_TOKEN
    trained = NUMBER * weights * (TRAINED if experiment.target.tuning == "full" else 1.5)
    one = PROCESS + data + trained + NUMBER * weights + _activations(experiment, float(summary["items"])) + observed
    placebo = experiment.evaluation.placebo and experiment.target.world == "members" and not experiment.target.brought
    return Memory((2.0 if placebo else 1.0) * one, available)


def _dense_lists(experiment: Experiment, users: float, items: float) -> float:
    return NUMBER * (users + items) * experiment.recommender.factors * TRAINED


def _weights(experiment: Experiment, items: float) -> float | None:
    """Numbers of the audited model."""
    base = experiment.base
    if base.source == "offline":
        rows = items if experiment.kind == "sequence" else base.vocabulary
        return base.layers * 12.0 * base.width**2 + rows * base.width
    folder = Path(experiment.target.path or base.path) if base.source == "local" else None
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors")) if folder and folder.is_dir() else 0
    return size / NUMBER if size else None


def _activations(experiment: Experiment, items: float) -> float:
    """Bytes that a batch keeps while it is learned from."""
    base: Base = experiment.base
    sequence = experiment.kind == "sequence"
    tokens = (
        experiment.target.training.batch_size * (experiment.prompt.history + 1) * (1.0 if sequence else TOKENS_PER_ITEM)
    )
    answers = tokens if sequence else experiment.target.training.batch_size * ANSWER_TOKENS
    return NUMBER * (
        tokens * base.layers * base.width * ACTIVATIONS + 3 * answers * (items if sequence else base.vocabulary)
    )
