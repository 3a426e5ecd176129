"""What a model says of the same few samples before it is trained, and as its training goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mia_core.observe.observations import observe

if TYPE_CHECKING:
    from mia_core.data.prompts import Samples

LOOKS = 10
"""Times at most that a model is asked while it learns, the one before it began aside."""


@dataclass(frozen=True)
class Record:
    """What was said at each look."""

    epochs: tuple[int, ...]
    """0 is before training."""
    users: tuple[str, ...]
    """One sample of each."""
    log_probability: np.ndarray
    """(looks, users) float32, mean over the answer's tokens, nats."""
    hidden: np.ndarray
    """(looks, users, width) float32 vector of the last layer."""


def looks(epochs: int) -> tuple[int, ...]:
    """After which epochs a model is asked: before the first, after the last, and evenly between."""
    step = max(1, math.ceil(epochs / LOOKS))
    return (*range(0, epochs, step), epochs)


class Watch:
    """Asks a model about the same samples at every look, and keeps what it says across interruptions.

    Args:
        samples: one of each user.
        epochs: of the training.
        scratch: a folder that survives a kill.
        tell: called after each look with the epoch and the (users,) log-probabilities.
    """

    def __init__(self, samples: Samples, epochs: int, scratch: Path, tell: Callable[[int, np.ndarray], None]) -> None:
        self.samples = samples
        self.at = looks(epochs)
        self.folder = scratch / "record"
        self.tell = tell
        self.folder.mkdir(exist_ok=True)

    def __call__(self, model: Any, epoch: int) -> None:
        """Looks, if it is time to. The model's random numbers are left alone, so training is the same without."""
        if epoch not in self.at:
            return
        model.network.eval()
        seen = observe(model, self.samples.prompts, self.samples.answers)
        log_probability = seen.sample_mean("log_probability").astype(np.float32)
        np.save(self.folder / f"{epoch}.npy", np.column_stack([log_probability, seen.hidden[:, -1]]))
        self.tell(epoch, log_probability)

    def write(self, folder: Path) -> None:
        """Puts what was seen beside the trained model. Training that ended early has fewer looks."""
        epochs = [epoch for epoch in self.at if (self.folder / f"{epoch}.npy").is_file()]
        if not epochs:
            return
        seen = [np.load(self.folder / f"{epoch}.npy", allow_pickle=False) for epoch in epochs]
        np.save(folder / "record.npy", np.stack(seen))
        users = [self.samples.users[i] for i in self.samples.user_index]
        text = json.dumps({"epochs": epochs, "users": users}, ensure_ascii=False)
        (folder / "record.json").write_text(text, encoding="utf-8")


def read_record(folder: Path) -> Record | None:
    """The record beside a model; None where its training was not watched."""
    if not (folder / "record.json").is_file():
        return None
    document = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    seen = np.load(folder / "record.npy", allow_pickle=False)
    return Record(tuple(document["epochs"]), tuple(document["users"]), seen[..., 0], seen[..., 1:])
