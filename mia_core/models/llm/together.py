"""One model trained by several processes: each takes a part of every batch, and all take the same step."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from mia_core.observe.observations import Encoded

LONGEST_WAIT = timedelta(days=1)
"""For a process that is asked something else between two epochs."""


class PartDone(Exception):
    """A process that is not the first has done its part of a training: what comes of it is the first one's to keep."""


class Alone:
    """A process that trains by itself."""

    first = True

    def prepared(self, step: torch.nn.Module, network: torch.nn.Module) -> torch.nn.Module:
        """What is called with a batch."""
        return step

    def seed(self) -> tuple[int, ...]:
        """What this process's draws are seeded by beside what all are."""
        return ()

    def total(self, step: torch.nn.Module, batch: Sequence[Encoded]) -> torch.Tensor:
        """The loss over the batch, whose gradient is that of all processes' parts together."""
        value: torch.Tensor = step(batch)
        return value

    def scratch(self, folder: Path | None) -> Path | None:
        """Where a training is kept that may be interrupted."""
        return folder

    def told(self, step: torch.nn.Module, model: Any, ask: Callable[[], float]) -> float:
        """What the model is asked between two steps, with all its weights in place."""
        return ask()

    def finish(self, step: torch.nn.Module, model: Any) -> None:
        """Leaves the model's network whole after the last step.

        Raises:
            PartDone: in every process but the first.
        """


class Team(Alone):
    """Processes that train together, as one of them sees it. Torch's launcher has started them.

    Args:
        sharded: weights, gradients and the optimizer's state are shared out, too (FSDP); else each process holds all of
            them (DDP).
        device: "cpu" or "cuda"; of several GPUs each process takes its own.
    """

    def __init__(self, sharded: bool, device: str) -> None:
        from accelerate import Accelerator, InitProcessGroupKwargs

        if device == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        waiting = InitProcessGroupKwargs(timeout=LONGEST_WAIT)
        self.accelerator = Accelerator(cpu=device == "cpu", kwargs_handlers=[waiting])
        self.rank, self.size = self.accelerator.process_index, self.accelerator.num_processes
        self.first = self.accelerator.is_main_process
        self.sharded, self.device = sharded, device

    def prepared(self, step: torch.nn.Module, network: torch.nn.Module) -> torch.nn.Module:
        """What is called with a batch: it brings the processes' gradients together."""
        if not self.sharded:
            joint: torch.nn.Module = self.accelerator.prepare(step)
            return joint
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        # Sharding changes a network for good; what is trained goes into this copy in the end.
        self.copy = copy.deepcopy(network).cpu() if self.first else None
        mesh = init_device_mesh(self.device, (self.size,))
        plain: Any = network
        inner = plain.get_base_model() if hasattr(plain, "get_base_model") else plain
        layers = set(getattr(inner, "_no_split_modules", None) or ())
        for module in network.modules():
            if type(module).__name__ in layers:
                fully_shard(module, mesh=mesh)
        fully_shard(step, mesh=mesh)
        return step

    def seed(self) -> tuple[int, ...]:
        """The first process draws as one that is alone does."""
        return () if self.first else (self.rank,)

    def total(self, step: torch.nn.Module, batch: Sequence[Encoded]) -> torch.Tensor:
        """The loss over this process's part, times the number of processes: gradients are averaged over these."""
        mine = batch[self.rank :: self.size]
        # Who has no part takes the step along with the others, and adds nothing.
        value: torch.Tensor = step(mine or batch[:1])
        return value * (self.size if mine else 0)

    def scratch(self, folder: Path | None) -> Path | None:
        """None where weights are shared out: no process holds what would have to be kept."""
        return None if self.sharded else folder

    def told(self, step: torch.nn.Module, model: Any, ask: Callable[[], float]) -> float:
        """What the first process is told when it asks the model, with all its weights in place."""
        trained = model.network
        self._gather(step, model)
        told = self._agreed(ask() if self.first else 0.0)
        model.network = trained
        return told

    def finish(self, step: torch.nn.Module, model: Any) -> None:
        """Leaves the model's network whole in the first process."""
        self._gather(step, model)
        if not self.first:
            raise PartDone

    def _gather(self, step: torch.nn.Module, model: Any) -> None:
        if not self.sharded:
            return
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        weights = get_model_state_dict(step, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
        if self.copy is not None:
            self.copy.load_state_dict({name.removeprefix("network."): value for name, value in weights.items()})
            model.network = self.copy.to(self.device)

    # What the processes tell each other

    def say(self, word: bool) -> None:
        """The first process tells the others something."""
        self._agreed(word)

    def hear(self) -> bool:
        """What the first process says."""
        return bool(self._agreed(0.0))

    def _agreed(self, word: float) -> float:
        """The first process's word."""
        said = torch.tensor([float(word)], dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(said, src=0)
        return float(said)

    def wait(self) -> None:
        """Waits until all have come as far."""
        self.accelerator.wait_for_everyone()

    def leave(self) -> None:
        """Ends the connection to the others."""
        self.accelerator.end_training()


_team: list[Alone] = [Alone()]


def team() -> Alone:
    """With whom this process trains."""
    return _team[-1]


def join(sharded: bool, device: str) -> Team:
    """Makes this process one of those that torch's launcher has started."""
    joined = Team(sharded, device)
    _team.append(joined)
    return joined
