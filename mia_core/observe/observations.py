"""What one pass of one view over the samples yields, reduced on the device and kept as small arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import torch

from mia_core.errors import DataError

TOKEN_FIELDS = (
    "log_probability",
    "entropy",
    "top_probability",
    "rank",
    "deviation",
    "renyi_half",
    "renyi_two",
    "log_complement",
    "root_complement",
    "top_token",
    "margin",
    "top_ten",
)
WHOLE_NUMBERS = ("rank", "top_token")
SAMPLES_OF_A_SHARD = 2**17
"""That are asked about and written down together."""
LARGEST_READ = 2**28
"""Bytes of an array that is read whole; a larger one is looked up on the disk."""
STATISTICS_AT_ONCE = 2**20
"""Probabilities that statistics are computed of at once: few enough to stay in a CPU's cache, which is four times as fast."""


@dataclass(frozen=True)
class Encoded:
    """One sample in token ids."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True)
class AnswerOutputs:
    """What a model says at the answer positions of one batch."""

    logits: torch.Tensor
    """(rows, length, vocabulary): a row per sample, or all samples one behind the other in a single row."""
    labels: torch.Tensor
    """(rows, length) token ids, 0 where padded."""
    mask: torch.Tensor
    """(rows, length) bool, True at answer tokens."""
    pooled: torch.Tensor | None
    """(batch, layers, width) hidden vectors, averaged over tokens."""

    def asked(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (tokens, vocabulary) and labels (tokens,) at the answer tokens, sample by sample."""
        if bool(self.mask.all()):
            # Where nothing is padded there is nothing to leave out, and no need for a copy.
            return self.logits.flatten(0, 1), self.labels.flatten()
        return self.logits[self.mask], self.labels[self.mask]


class AnswerModel(Protocol):
    """What `observe` needs of a model: a language model's, whose tokens are words, or one whose tokens are items."""

    @property
    def tokens_at_once(self) -> int:
        """Tokens that one batch holds."""

    def encode(self, prompts: Sequence[str], answers: Sequence[str]) -> list[Encoded]:
        """Token ids of each sample."""

    def answer_outputs(self, batch: Sequence[Encoded], *, pooled: bool = False) -> AnswerOutputs:
        """What it says of each answer token, given the prompt and the answer before it."""


@dataclass(frozen=True)
class Observations:
    """Per-token values of n samples, ragged: sample i owns positions offsets[i]:offsets[i+1].

    Logarithms are natural. The mean of log p over the vocabulary under p is minus the entropy.
    """

    offsets: np.ndarray
    """(n + 1,) int64."""
    token: np.ndarray
    """(total,) int32 token ids of the answers."""
    log_probability: np.ndarray
    """(total,) float32, at most 0."""
    entropy: np.ndarray
    """(total,) float32, nats."""
    top_probability: np.ndarray
    """(total,) float32."""
    rank: np.ndarray
    """(total,) int32; 0 where the answer token is the likeliest."""
    deviation: np.ndarray
    """(total,) float32: standard deviation of log p over the vocabulary under p."""
    renyi_half: np.ndarray
    """(total,) float32: Rényi entropy of order one half, nats."""
    renyi_two: np.ndarray
    """(total,) float32: Rényi entropy of order two, nats."""
    log_complement: np.ndarray
    """(total,) float32: sum over the vocabulary of p·log(1 − p), at most 0."""
    root_complement: np.ndarray
    """(total,) float32: sum over the vocabulary of p·√(1 − p)."""
    top_token: np.ndarray
    """(total,) int32: the likeliest token."""
    margin: np.ndarray
    """(total,) float32: log-probability of the likeliest token less that of the second."""
    top_ten: np.ndarray
    """(total,) float32: probability of the ten likeliest tokens together."""
    hidden: np.ndarray
    """(n, layers, width) float32, averaged over prompt tokens (encoder layers) or answer tokens (others)."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def sample_mean(self, name: str) -> np.ndarray:
        """(n,) mean over each sample's answer tokens of one per-token field."""
        return self.answer_mean(getattr(self, name))

    def answer_mean(self, values: np.ndarray) -> np.ndarray:
        """(n,) mean over each sample's answer tokens of (total,) values."""
        lengths = np.diff(self.offsets)
        if len(lengths) == 0:
            return np.zeros(0)
        return np.add.reduceat(values.astype(np.float64), self.offsets[:-1]) / lengths

    def sample_sum(self, name: str) -> np.ndarray:
        """(n,) sum over each sample's answer tokens of one per-token field."""
        return self.sample_mean(name) * np.diff(self.offsets)

    def take(self, positions: np.ndarray) -> Observations:
        """The observations of the samples at these positions, in this order."""
        lengths = np.diff(self.offsets)[positions]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        starts = np.repeat(self.offsets[:-1][positions] - offsets[:-1], lengths)
        flat = np.arange(offsets[-1]) + starts
        ragged = {name: getattr(self, name)[flat] for name in ("token", *TOKEN_FIELDS)}
        return Observations(offsets=offsets, hidden=self.hidden[positions], **ragged)

    @staticmethod
    def mixed(models: Sequence[Observations], choice: np.ndarray) -> Observations:
        """For sample i, the observation that model `choice[i]` made of it."""
        lengths = np.concatenate([np.diff(model.offsets) for model in models])
        joined = Observations(
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            hidden=np.concatenate([model.hidden for model in models]),
            **{name: np.concatenate([getattr(m, name) for m in models]) for name in ("token", *TOKEN_FIELDS)},
        )
        return joined.take(choice * len(models[0]) + np.arange(len(choice)))

    def write(self, folder: Path) -> None:
        """Saves every array as .npy."""
        write_shards([self], folder)

    @staticmethod
    def read(folder: Path) -> Observations:
        """The observations saved in a folder. Large arrays stay on the disk until somebody looks at them."""
        return Observations(**{field.name: _opened(folder / f"{field.name}.npy") for field in fields(Observations)})


def write_shards(shards: Iterable[Observations], folder: Path) -> None:
    """Saves observations that come one shard of samples after the other, of which no more than one need be in memory.

    The files are those of all shards' observations together.
    """
    with ExitStack() as open_files:
        files: dict[str, _GrowingArray] = {}
        total = 0
        for shard in shards:
            for field in fields(shard):
                values = getattr(shard, field.name)
                if field.name == "offsets":
                    # Every shard counts its tokens from 0.
                    values = values[1:] + total if field.name in files else values
                if field.name not in files:
                    files[field.name] = _GrowingArray(open_files, folder / f"{field.name}.npy", values)
                files[field.name].append(values)
            total += int(shard.offsets[-1])


class _GrowingArray:
    """An .npy file to which rows are added; it has the bytes that `np.save` would give it."""

    def __init__(self, open_files: ExitStack, path: Path, like: np.ndarray) -> None:
        self.stream: BinaryIO = open_files.enter_context(path.open("wb"))
        self.shape, self.kind = [0, *like.shape[1:]], np.lib.format.dtype_to_descr(like.dtype)
        self._write_header()

    def append(self, values: np.ndarray) -> None:
        """Adds rows at the end."""
        self.stream.write(np.ascontiguousarray(values).tobytes())
        self.shape[0] += len(values)
        end = self.stream.tell()
        self.stream.seek(0)
        self._write_header()
        self.stream.seek(end)

    def _write_header(self) -> None:
        # The header has room for a first axis of any length, so that it can be written over.
        header = {"descr": self.kind, "fortran_order": False, "shape": tuple(self.shape)}
        np.lib.format.write_array_header_1_0(self.stream, header)


def _opened(path: Path) -> np.ndarray:
    large = path.stat().st_size > LARGEST_READ
    values: np.ndarray = np.load(path, mmap_mode="c" if large else None, allow_pickle=False)
    return np.asarray(values)


def token_statistics(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every per-token value of `Observations`, from logits (tokens, vocabulary) and labels (tokens,).

    Source: deviation as in Min-K%++ (Zhang et al., arXiv 2404.02936); Rényi entropies as in Li et al., 2411.02902.
    """
    log_p = torch.log_softmax(logits.float(), dim=-1)
    p = log_p.exp()
    chosen = log_p.gather(-1, labels[:, None])
    entropy = -(p * log_p).sum(-1)
    best = log_p.topk(min(10, log_p.shape[-1])).values
    return {
        "log_probability": chosen.squeeze(-1),
        "entropy": entropy,
        "top_probability": p.amax(-1),
        "rank": (log_p > chosen).sum(-1),
        "deviation": (p * (log_p + entropy[:, None]).square()).sum(-1).sqrt(),
        "renyi_half": 2 * p.sqrt().sum(-1).log(),
        "renyi_two": -p.square().sum(-1).log(),
        "log_complement": (p * torch.log1p(-p.clamp(max=1 - 1e-7))).sum(-1),
        "root_complement": (p * (1 - p).clamp(min=0).sqrt()).sum(-1),
        "top_token": log_p.argmax(-1),
        "margin": best[:, 0] - best[:, 1],
        "top_ten": best.exp().sum(-1),
    }


def answer_statistics(outputs: AnswerOutputs) -> dict[str, torch.Tensor]:
    """`token_statistics` at the answer tokens, some tokens after the other."""
    logits, labels = outputs.asked()
    most = max(1, STATISTICS_AT_ONCE // logits.shape[-1])
    parts = [token_statistics(*part) for part in zip(logits.split(most), labels.split(most), strict=True)]
    return {name: torch.cat([part[name] for part in parts]) for name in TOKEN_FIELDS}


def batches_of_answers(
    model: AnswerModel, encoded: Sequence[Encoded], *, pooled: bool, tokens_per_batch: int | None = None
) -> Iterator[tuple[list[int], AnswerOutputs]]:
    """(positions of some samples, what the model says of them), until every sample was asked about.

    Samples are sorted by length, so that a batch is padded little; a batch holds about `tokens_per_batch` tokens.

    Raises:
        DataError: an answer has no tokens.
    """
    for i, sample in enumerate(encoded):
        if not sample.answer:
            raise DataError(f"sample {i}: the answer has no tokens; give every item a title or an id")
    order = sorted(range(len(encoded)), key=lambda i: (len(encoded[i].prompt), len(encoded[i].answer)))
    for positions in _batches(order, encoded, tokens_per_batch or model.tokens_at_once):
        yield positions, model.answer_outputs([encoded[i] for i in positions], pooled=pooled)


@torch.inference_mode()
def observe(
    model: AnswerModel,
    prompts: Sequence[str],
    answers: Sequence[str],
    *,
    tokens_per_batch: int | None = None,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> Observations:
    """Observations of every sample, in input order, from one batched pass: see `batches_of_answers`.

    No (batch, length, vocabulary) tensor outlives its batch.

    Args:
        tokens_per_batch: as many as the model takes at once, where nothing else is said.
    Raises:
        DataError: an answer has no tokens.
    """
    encoded = model.encode(prompts, answers)
    lengths = np.array([len(sample.answer) for sample in encoded], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = {name: np.empty(offsets[-1], np.int32 if name in WHOLE_NUMBERS else np.float32) for name in TOKEN_FIELDS}
    hidden: np.ndarray | None = None
    done = 0
    for positions, outputs in batches_of_answers(model, encoded, pooled=True, tokens_per_batch=tokens_per_batch):
        statistics = answer_statistics(outputs)
        flat = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in positions])
        for name, value in statistics.items():
            values[name][flat] = value.cpu().numpy()
        assert outputs.pooled is not None  # noqa: S101 - asked for above
        pooled = outputs.pooled.float().cpu().numpy()
        if hidden is None:
            hidden = np.empty((len(encoded), *pooled.shape[1:]), np.float32)
        hidden[positions] = pooled
        done += len(positions)
        on_progress(done / len(encoded))
    token = np.array([token for sample in encoded for token in sample.answer], dtype=np.int32)
    if hidden is None:
        hidden = np.zeros((0, 0, 0), np.float32)
    return Observations(offsets=offsets, token=token, hidden=hidden, **values)


def observe_in_shards(
    model: AnswerModel,
    prompts: Sequence[str],
    answers: Sequence[str],
    *,
    samples_of_a_shard: int = SAMPLES_OF_A_SHARD,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> Iterator[Observations]:
    """What `observe` finds, one shard of the samples after the other, at least one.

    Relations: all shards together are what `observe` gives for all samples, within floating-point tolerance: a batch holds
        samples of one shard.
    """
    starts = range(0, max(1, len(prompts)), samples_of_a_shard)
    for number, start in enumerate(starts):
        part = slice(start, start + samples_of_a_shard)

        def told(fraction: float, done: int = number) -> None:
            on_progress((done + fraction) / len(starts))

        yield observe(model, prompts[part], answers[part], on_progress=told)


def _batches(order: Sequence[int], encoded: Sequence[Encoded], tokens_per_batch: int) -> list[list[int]]:
    batches: list[list[int]] = []
    batch: list[int] = []
    longest = 0
    for i in order:
        length = len(encoded[i].prompt) + len(encoded[i].answer)
        if batch and max(longest, length) * (len(batch) + 1) > tokens_per_batch:
            batches.append(batch)
            batch, longest = [], 0
        batch.append(i)
        longest = max(longest, length)
    return [*batches, batch] if batch else batches
