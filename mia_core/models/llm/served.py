"""A model behind a service that changes what it shows: the same calls, other probabilities, no inner states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from mia_core.observe.observations import AnswerOutputs, Encoded

Change = Callable[[torch.Tensor], torch.Tensor]
"""(..., vocabulary) logits -> logits of what is shown; each position for itself."""

SHOWN_WIDTH = 64
"""Numbers that stand for a sample's shown distributions where otherwise hidden vectors do."""


@dataclass
class ServedModel:
    """A language model, or a `SequenceModel`, of which only changed probabilities are shown.

    Hidden vectors are not shown at all. Attacks that look at them get what somebody who sees outputs alone has in their
    place: the mean distribution over the asked positions, under a random projection that is the same for all samples.
    What the model writes of its own accord is chosen by the service itself, and so is as before.
    """

    model: Any
    change: Change
    seed: int
    """Draws the projection."""

    def __getattr__(self, name: str) -> Any:
        # Not `self.model`: a copy that has no fields yet would look for it here, without end.
        return getattr(object.__getattribute__(self, "model"), name)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.model.device
        return device

    @property
    def tokens_at_once(self) -> int:
        """Tokens that one batch of observations holds."""
        return int(self.model.tokens_at_once)

    def encode(self, prompts: Sequence[str], answers: Sequence[str]) -> list[Encoded]:
        """Token ids of each sample."""
        encoded: list[Encoded] = self.model.encode(prompts, answers)
        return encoded

    def add_embedding_noise(self, scale: float, seed: int) -> ServedModel:
        """The same service, whose model from now on hears every token a little wrong."""
        self.model.add_embedding_noise(scale, seed)
        return self

    def answer_outputs(self, batch: Sequence[Encoded], *, pooled: bool = False) -> AnswerOutputs:
        """Shown logits at the answer positions; pooled: (batch, 1, 64) from them, see the class."""
        inner = self.model.answer_outputs(batch)
        outputs = replace(inner, logits=self.change(inner.logits.float()))
        return replace(outputs, pooled=self._shown(outputs, batch)) if pooled else outputs

    def next_items(self, histories: Sequence[str]) -> np.ndarray:
        """(n, n_items) float32 shown log-probability of each item as the one after a history, where items are tokens."""
        told = torch.from_numpy(self.model.next_items(histories))
        return torch.log_softmax(self.change(told), dim=-1).numpy()

    def _shown(self, outputs: AnswerOutputs, batch: Sequence[Encoded]) -> torch.Tensor:
        p = torch.softmax(outputs.asked()[0], dim=-1)
        vectors = p @ _projection(p.shape[-1], self.seed).to(p)
        lengths = [len(sample.answer) for sample in batch]
        return torch.stack([part.mean(0) for part in vectors.split(lengths)])[:, None]


@lru_cache(maxsize=1)
def _projection(vocabulary: int, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(vocabulary, SHOWN_WIDTH, generator=draw) / SHOWN_WIDTH**0.5


def rounded(logits: torch.Tensor, digits: int) -> torch.Tensor:
    """Logarithms of probabilities that are shown with so many decimals.

    Tokens that are shown as 0 share what is left over evenly, each at most half of the last decimal, so that a logarithm
    is finite and none of them looks likelier than a token that is shown.
    """
    step = 10.0**-digits
    shown = torch.round(torch.softmax(logits, dim=-1) / step) * step
    hidden = shown == 0
    left = (1 - shown.sum(-1, keepdim=True)).clamp(min=step / 2)
    share = (left / hidden.sum(-1, keepdim=True).clamp(min=1)).clamp(max=step / 2)
    return torch.where(hidden, share, shown).log()


def only_top(logits: torch.Tensor, k: int) -> torch.Tensor:
    """Log-probabilities of which only the k highest are shown; the other tokens share the rest evenly."""
    log_p = torch.log_softmax(logits, dim=-1)
    if k >= log_p.shape[-1]:
        return log_p
    shown = log_p.topk(k).indices
    others = log_p.scatter(-1, shown, -torch.inf).logsumexp(-1, keepdim=True) - np.log(log_p.shape[-1] - k)
    return others.expand_as(log_p).scatter(-1, shown, log_p.gather(-1, shown))


def reverse_sigmoid(logits: torch.Tensor, beta: float, gamma: float) -> torch.Tensor:
    """Logarithms of p − b·(σ(γ·σ⁻¹(p)) − ½), b = 2·beta / vocabulary; positive wherever beta is at most 1.

    Source: Lee, Edwards, Molloy, Su 2018, arXiv 1806.00054.
    Differs: there b is beta, for a few classes. Each unlikely class gains up to b / 2, which thousands of tokens would
    drown the answer in; here all of them gain up to beta together. With two classes both are the same.
    """
    p = torch.softmax(logits, dim=-1)
    bent = torch.sigmoid(gamma * torch.logit(p)) - 0.5
    return (p - 2 * beta / p.shape[-1] * bent).log()
