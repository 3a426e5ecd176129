"""One model trained by two processes: the weights that one process finds, whether or not these share them out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from mia_core.audit import errands
from mia_core.audit.errands import make_each
from mia_core.audit.stages import Run
from mia_core.errors import ClusterError, Stopped
from mia_core.experiment import Runtime, parse_experiment
from mia_core.models.llm.together import Alone, team
from mia_core.pipeline import start
from mia_core.storage.store import Store
from mia_core.types import Silent

# A batch of 15 is no multiple of two processes, and the last one of an epoch is smaller still. Without dropout, which every
# process would draw for itself, only the order of sums differs.
TRAINING = {"epochs": 2, "learning_rate": 5e-3, "accumulation": 2, "batch_size": 15}
QUICK = {"epochs": 1, "learning_rate": 5e-3}
EXPERIMENT: dict[str, Any] = {
    "data": {"synthetic": {"users": 120, "items": 60, "mean_history": 15, "tastes": 3}},
    "prompt": {"history": 4, "windows": 2},
    "distillation": {"soft_windows": 2, "soft_training": {**QUICK, "early_stop": True}},
}


def run_in(home: Path, family: str, tuning: str, **runtime: Any) -> Run:
    base = {"family": family, "width": 16, "layers": 2, "vocabulary": 300, "pretraining": QUICK}
    target = {"training": TRAINING, "tuning": tuning, "lora": {"rank": 4, "dropout": 0}}
    experiment = parse_experiment({**EXPERIMENT, "base": base, "target": target})
    run = start(experiment, Store(home), Silent(), Runtime(device="cpu", threads=1, **runtime), announce=False)
    run.build(run.interactions.key, "interactions", run.interactions.write)
    # The same start for all.
    _ = run.base
    return run


def weights(run: Run) -> dict[str, torch.Tensor]:
    found = {}
    for name, model in (("target", run.target), ("soft", run.soft_reference(0))):
        assert model.folder is not None
        part = load_file(next(model.folder.glob("*.safetensors")))
        found |= {f"{name} {key}": value for key, value in part.items()}
    return found


def before(run: Run) -> dict[str, torch.Tensor]:
    """The weights of the target before it was trained."""
    assert run.base is not None
    return {f"target {name}": value for name, value in run.base.load().network.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "tuning", "sharded"), [("llama", "full", False), ("llama", "full", True), ("t5", "lora", True)]
)
def test_two_processes_find_the_weights_that_one_does(tmp_path: Path, family: str, tuning: str, sharded: bool) -> None:
    alone = run_in(tmp_path / "alone", family, tuning)
    both = run_in(tmp_path / "both", family, tuning, processes=2, sharded=sharded)
    for run in (alone, both):
        make_each(run, ["target"])
        make_each(run, ["student start", "soft 0"])
    one, two = weights(alone), weights(both)
    assert set(one) == set(two)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=2e-4, msg=name)
    if tuning == "full":
        start = before(alone)
        assert max(float((one[name] - start[name]).abs().max()) for name in start) > 0.01, "nothing was learned"
    # The record that is kept while the target is trained comes from its first process.
    (target,) = [entry for entry in both.store.entries("model") if entry.key == both.target.key]
    assert (target.path / "record.npy").is_file()


@pytest.mark.slow
def test_what_one_of_them_meets_is_told_and_a_stop_ends_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_in(tmp_path, "llama", "full", processes=2)
    run.store.remove(run.interactions.key)
    with pytest.raises(ClusterError, match=r"AssertionError at errands\.py"):
        make_each(run, ["target"])

    def stopped(seconds: float) -> None:
        if launched():
            raise Stopped

    monkeypatch.setattr(errands.time, "sleep", stopped)
    with pytest.raises(Stopped):
        make_each(run, ["target"])
    monkeypatch.undo()
    assert launched() == []


def launched() -> list[psutil.Process]:
    """Processes below this one that train."""
    below = psutil.Process(os.getpid()).children(recursive=True)
    return [process for process in below if process.is_running() and "mia_core.audit.joint" in process.cmdline()]


def test_a_process_by_itself_waits_for_nobody(tmp_path: Path) -> None:
    assert type(team()) is Alone
    assert team().first
    assert team().seed() == ()
    assert team().scratch(tmp_path) == tmp_path
