"""How fast this machine does each kind of work of an audit, measured on the audit's own models and data in seconds."""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mia_core.audit import estimate
from mia_core.audit.estimate import Rates
from mia_core.audit.exposures import Exposures
from mia_core.audit.stages import Run
from mia_core.data.prompts import Samples
from mia_core.errors import ModelError
from mia_core.experiment import Experiment, Runtime, Training
from mia_core.machines.tasks import spare_cores
from mia_core.models.device import use_threads
from mia_core.models.llm.distillation import distillation_loss
from mia_core.models.llm.generation import drawn_answers, ranked_answers
from mia_core.models.llm.gradients import gradient_norms
from mia_core.models.llm.training import BatchLoss, fit, hard_loss
from mia_core.models.recommenders import RECOMMENDERS
from mia_core.observe.observations import observe
from mia_core.pipeline import start
from mia_core.planning.capacity import measured_rates, throughput_key
from mia_core.storage.store import Store
from mia_core.types import Progress, Silent

CLOCK = time.perf_counter
"""Tells seconds."""
LONG_ENOUGH = 1.5
"""Seconds that each kind of work is measured for, about."""
WARMING_UP = 3
"""Steps of training that are not counted: the first ones reserve memory and choose how to multiply."""
BATCHES = 6
"""Of training windows that are measured on."""
FEW_PROMPTS = 48
"""That answers are written to; windows whose gradients are taken."""
FEW_PEOPLE = 500
"""Whose histories a classic recommender is measured on."""


def measure(experiment: Experiment, store: Store, runtime: Runtime, progress: Progress | None = None) -> str:
    """Measures this machine for audits like this one, unless that was done lately; returns the key of what was found.

    The audit's data are read and models of its shape are built, with weights drawn at random; nothing of either is kept.

    Raises:
        ModelError: the model would have to be fetched first.
        DataError, ConfigError: what the user can mend.
    """
    progress = progress or Silent()
    key = throughput_key(experiment, runtime)
    if measured_rates(store, experiment, runtime) is not None:
        return key
    if experiment.base.source == "hub" and experiment.kind == "language":
        raise ModelError(
            f"{experiment.base.hub_id!r} may not be here yet, so it is not measured; fetch it and name its folder with "
            "base.source = 'local', or take the rough plan"
        )
    store.remove(key)
    progress.start("Measure this machine")
    rates = _Measuring(experiment, store, runtime, progress).rates()
    store.build(key, "throughput", lambda folder: _write(rates, folder), name="throughput", keep=True)
    progress.finish("Measure this machine", cached=False)
    return key


def _write(rates: Rates, folder: Path) -> None:
    (folder / "rates.json").write_text(json.dumps(dataclasses.asdict(rates)), encoding="utf-8")


class _Measuring:
    """One run of which nothing is kept."""

    def __init__(self, experiment: Experiment, store: Store, runtime: Runtime, progress: Progress) -> None:
        self.experiment = experiment
        self.store = store
        self.runtime = runtime
        self.progress = progress

    def rates(self) -> Rates:
        began = CLOCK()
        opened = start(self.experiment, self.store, Silent(), self.runtime, announce=False)
        with tempfile.TemporaryDirectory() as folder:
            run = dataclasses.replace(opened, store=Store(Path(folder)))
            _ = run.split, run.samples
            found = dataclasses.replace(Rates.guessed(run.experiment), read=CLOCK() - began, beside=_beside(run))
            self.progress.advance(0.3)
            if found.beside is not None and estimate.wants_placebo(run.experiment):
                # As in the audit: the placebo takes the other core.
                use_threads(spare_cores())
            if self.experiment.kind == "recommender":
                found = dataclasses.replace(found, rating=_rating(run))
            elif run.served is None:
                found = dataclasses.replace(found, **self._of_models(run))
            run.store.close()
        return found

    def _of_models(self, run: Run) -> dict[str, float]:
        config, needs = run.experiment, set(estimate.needs(run.experiment))
        training = config.target.training
        samples = run.samples.take(range(min(len(run.samples), BATCHES * training.batch_size)))
        teacher, learner = (_model(run, purpose) for purpose in ("teacher", "learner"))
        found = {"observe": _observing(teacher, samples)}
        self.progress.advance(0.5)
        learner = run.trainable(learner, "learner")
        encoded = teacher.encode(samples.prompts, samples.answers)
        size = len(teacher.tokenizer) if config.kind == "language" else len(run.catalogue.items)
        found["answer_bytes"] = 4 * size * sum(len(one.answer) for one in encoded) / len(encoded)
        found["train"] = _learning(learner, samples, lambda: hard_loss(), training)
        self.progress.advance(0.7)
        found["distil"] = _learning(
            learner, samples, lambda: distillation_loss(teacher, 0.0, config.distillation.temperature), training
        )
        self.progress.advance(0.9)
        prompts, views = samples.prompts[:FEW_PROMPTS], config.views
        if "lists" in needs and config.kind == "language":
            found["write"] = _seconds(
                lambda: ranked_answers(teacher, prompts, views.list_length, views.answer_tokens)
            ) / len(prompts)
        if needs & {"temperatures", "self_prompted"} and config.kind == "language":
            found["draw"] = _seconds(
                lambda: drawn_answers(teacher, prompts, views.repeats, 1.0, views.answer_tokens, 0)
            ) / (len(prompts) * views.repeats)
        if "gradient" in needs:
            found["gradient"] = _seconds(lambda: gradient_norms(teacher, encoded[:FEW_PROMPTS])) / len(prompts)
        return found


def _model(run: Run, purpose: str) -> Any:
    """A model of the audit's shape; what it says does not matter."""
    base = run.experiment.base
    if run.experiment.target.source != "own" and base.source == "offline":
        return run.untrained(base, None, purpose)
    return (run.base or run.target).load()


def _observing(model: Any, samples: Samples) -> float:
    """Seconds a window."""
    return _seconds(lambda: observe(model, samples.prompts, samples.answers)) / len(samples)


def _learning(model: Any, samples: Samples, loss: Callable[[], BatchLoss], training: Training) -> float:
    """Seconds that a window takes each time it is learned from, by the steps of whole trainings of one epoch."""
    encoded = model.encode(samples.prompts, samples.answers)
    once = training.model_copy(update={"epochs": 1, "early_stop": False})
    steps = math.ceil(len(encoded) / (training.batch_size * training.accumulation))
    seconds = counted = 0.0
    while seconds < LONG_ENOUGH:
        moments = [CLOCK()]
        fit(model, encoded, loss(), once, seed=0, on_progress=lambda fraction, at=moments: _note(model, at))  # type: ignore[misc]
        # One step alone has to serve as it is.
        skipped = min(WARMING_UP, steps - 1) if not counted else 0
        seconds += moments[-1] - moments[skipped]
        counted += steps - skipped
    return seconds / counted * steps / len(encoded)


def _note(model: Any, moments: list[float]) -> None:
    """What time it is once the device has done its step."""
    next(model.network.parameters()).sum().item()
    moments.append(CLOCK())


def _rating(run: Run) -> float:
    """Seconds that a classic recommender takes for one look at a rating."""
    settings = run.experiment.recommender
    members = run.members_trained_on[:FEW_PEOPLE]
    histories = Exposures(run).trained_on(members, 0.0)
    kind = RECOMMENDERS[settings.kind]
    seconds = _seconds(lambda: kind.fit(settings, histories, 0, lambda fraction: None))
    return seconds / estimate.recommender_work(settings, float(histories.sum()))


def _beside(run: Run) -> float | None:
    """How many times as long the placebo's process takes, which has a core to itself; None: it runs afterwards."""
    if run.device.type != "cpu" or not spare_cores():
        return None
    return 1.0


def _seconds(work: Callable[[], object]) -> float:
    """Of one go, once it is warm; the quickest of the goes within the time there is."""
    began = CLOCK()
    work()
    quickest, goes = math.inf, 0
    while goes == 0 or CLOCK() - began < LONG_ENOUGH:
        started = CLOCK()
        work()
        quickest, goes = min(quickest, CLOCK() - started), goes + 1
    return quickest
