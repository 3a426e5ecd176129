"""Recommenders whose tokens are items: transformers that tell the next item of a history, asked like a language model."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError

from mia_core.data.prompts import SEPARATOR
from mia_core.errors import DataError, ModelError
from mia_core.models.llm.language_model import add_noise_to_embeddings
from mia_core.models.sequence_families import (
    END,
    FIRST_ITEM,
    HIDDEN,
    LONGEST,
    PADDING,
    SEQUENCE_FAMILIES,
    START,
    SequenceFamily,
)
from mia_core.observe.observations import AnswerOutputs, Encoded
from mia_core.seeds import derive_seed

if TYPE_CHECKING:
    from mia_core.experiment import Base

HIDDEN_SHARE = 0.2
"""Masked training: each item is hidden with this probability, and one of each history for sure."""

SHORTEST_ROW = 8
"""Rows are padded to this length, or to it doubled until they fit: a few fixed lengths instead of one for all, since most
sessions are much shorter than the longest."""
TOKENS_AT_ONCE = 2**14
"""Tokens that go through the layers at once."""
LOGITS_AT_ONCE = 2**25
"""Values of the output layer that one batch of observations may have."""

ITEMS_FILE = "items.json"


@dataclass
class SequenceModel:
    """A network over items, behind the calls that training, distilling and observing need.

    A sample is what is shown and what is asked. Where HIDDEN stands in what is shown, the items hidden there are asked;
    elsewhere each asked item is told from the shown ones and the asked ones before it, and from nothing else.
    """

    network: Any
    items: tuple[str, ...]
    family: SequenceFamily
    autocast: torch.dtype | None = None
    """Precision of matrix products; None: that of the weights."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    @property
    def plain_network(self) -> Any:
        """The transformers model."""
        return self.network

    @property
    def tokens_at_once(self) -> int:
        """Items that one batch of observations may ask for."""
        return max(1, LOGITS_AT_ONCE // (len(self.items) + FIRST_ITEM))

    @cached_property
    def _token(self) -> Mapping[str, int]:
        return {item: FIRST_ITEM + i for i, item in enumerate(self.items)}

    def add_embedding_noise(self, scale: float, seed: int) -> SequenceModel:
        """The same model, which from now on sees every item a little wrong: see `add_noise_to_embeddings`."""
        add_noise_to_embeddings(self.network, scale, seed)
        return self

    def encode(self, prompts: Sequence[str], answers: Sequence[str]) -> list[Encoded]:
        """Tokens of what is shown and of what is asked, from item ids joined by `SEPARATOR`.

        Raises:
            DataError: an id that this model has no token for.
        """
        encoded = []
        for prompt, answer in zip(prompts, answers, strict=True):
            shown, asked = self._tokens(prompt), self._tokens(answer)[-LONGEST:]
            encoded.append(Encoded(shown[max(0, len(shown) + len(asked) - LONGEST) :], asked))
        return encoded

    def _tokens(self, text: str) -> tuple[int, ...]:
        try:
            return tuple(self._token[item] for item in text.split(SEPARATOR)) if text else ()
        except KeyError as unknown:
            raise DataError(
                f"item {unknown.args[0]!r} is none of the {len(self.items):,} items of this model; a history can hold only "
                "items of the data that the audit was made with, by their ids"
            ) from None

    def texts(self, tokens: Sequence[int]) -> list[str]:
        """Each token's item id; what is no item is in brackets."""
        marks = {PADDING: "[padding]", START: "[start]", END: "[end]", HIDDEN: "[hidden]"}
        return [marks[token] if token in marks else self.items[token - FIRST_ITEM] for token in tokens]

    def asked_in_training(self, batch: Sequence[Encoded]) -> Sequence[Encoded]:
        """The batch as it is trained on.

        A masked family gets each history with items hidden, drawn anew each time; a causal one also learns where it ends.
        """
        if self.family.masked:
            return [_with_gaps((*sample.prompt, *sample.answer)) for sample in batch]
        return [Encoded(sample.prompt, (*sample.answer, END)) for sample in batch]

    def answer_outputs(self, batch: Sequence[Encoded], *, pooled: bool = False) -> AnswerOutputs:
        """Logits at the asked items, all samples in one row; and hidden vectors, averaged over each sample's.

        Raises:
            ModelError: gaps are asked of a causal family.
        """
        mixed = torch.autocast(self.device.type, dtype=self.autocast) if self.autocast is not None else nullcontext()
        with mixed:
            layers = self._vectors(*(self._gaps(batch) if self.family.masked else self._in_order(batch)))
            logits = self.network.get_output_embeddings()(layers[:, -1])
        labels = torch.tensor([token for sample in batch for token in sample.answer], device=self.device)
        vectors = None
        if pooled:
            lengths = torch.tensor([len(sample.answer) for sample in batch], device=self.device)
            total = layers.new_zeros(len(batch), *layers.shape[1:])
            total.index_add_(0, torch.arange(len(batch), device=self.device).repeat_interleave(lengths), layers)
            vectors = total / lengths[:, None, None]
        return AnswerOutputs(logits[None], labels[None], torch.ones_like(labels[None], dtype=torch.bool), vectors)

    @torch.inference_mode()
    def next_items(self, histories: Sequence[str]) -> np.ndarray:
        """(n, n_items) float32 log-probability of each item as the one after a history of item ids."""
        found = np.empty((len(histories), len(self.items)), dtype=np.float32)
        # What is asked does not matter: all items are told.
        asked = [Encoded(self._tokens(history)[-LONGEST + 1 :], (FIRST_ITEM,)) for history in histories]
        for start in range(0, len(asked), self.tokens_at_once):
            logits = self.answer_outputs(asked[start : start + self.tokens_at_once]).logits[0]
            told = torch.log_softmax(logits[:, FIRST_ITEM:].float(), dim=-1)
            found[start : start + len(told)] = told.cpu().numpy()
        return found

    def _in_order(self, batch: Sequence[Encoded]) -> tuple[list[tuple[int, ...]], list[list[int]]]:
        """Rows of tokens, and where in each the asked items are told: one position before them."""
        if any(HIDDEN in sample.prompt for sample in batch):
            raise ModelError(
                f"{self.family.title} reads from left to right and cannot fill gaps, which a student of a masked family "
                f"asks about; set distillation.student's family to {self.family.name!r}"
            )
        rows = [(START, *sample.prompt, *sample.answer[:-1]) for sample in batch]
        return rows, [list(range(len(row) - len(s.answer), len(row))) for row, s in zip(rows, batch, strict=True)]

    def _gaps(self, batch: Sequence[Encoded]) -> tuple[list[tuple[int, ...]], list[list[int]]]:
        """Rows of tokens with gaps, and where these are: for items asked in order, a row for each, which ends with it."""
        rows: list[tuple[int, ...]] = []
        for sample in batch:
            if HIDDEN in sample.prompt:
                rows.append((START, *sample.prompt, END))
            else:
                rows += [(START, *sample.prompt, *sample.answer[:i], HIDDEN, END) for i in range(len(sample.answer))]
        return rows, [[place for place, token in enumerate(row) if token == HIDDEN] for row in rows]

    def _vectors(self, rows: Sequence[tuple[int, ...]], asked: Sequence[Sequence[int]]) -> torch.Tensor:
        """(asked positions, layers, width); rows that are padded to one length go through the layers together."""
        of_length: dict[int, list[int]] = defaultdict(list)
        for i, row in enumerate(rows):
            of_length[_padded_length(len(row))].append(i)
        parts, found = [], []
        for length, members in of_length.items():
            most = max(1, TOKENS_AT_ONCE // length)
            for chosen in (members[start : start + most] for start in range(0, len(members), most)):
                padded = [rows[i] + (PADDING,) * (length - len(rows[i])) for i in chosen]
                where = [(line, place) for line, i in enumerate(chosen) for place in asked[i]]
                tokens, places = (torch.tensor(table, device=self.device) for table in (padded, where))
                parts.append(self.family.vectors_at(self.network, tokens, *places.T))
                found += [i for i in chosen for _ in asked[i]]
        # Rows of one length keep their order, so that a stable sort restores that of the samples.
        order = torch.tensor(found, device=self.device).argsort(stable=True)
        return torch.cat(parts)[order]


def _padded_length(tokens: int) -> int:
    length = SHORTEST_ROW
    while length < tokens:
        length *= 2
    return length


def _with_gaps(history: tuple[int, ...]) -> Encoded:
    hidden = torch.rand(len(history)) < HIDDEN_SHARE
    hidden[int(torch.randint(len(history), ()))] = True
    gaps = hidden.tolist()
    shown = tuple(HIDDEN if gap else item for gap, item in zip(gaps, history, strict=True))
    return Encoded(shown, tuple(item for gap, item in zip(gaps, history, strict=True) if gap))


def build_sequence(config: Base, items: Sequence[str], seed: int, device: torch.device) -> SequenceModel:
    """A model of the family over these items, with seeded random weights."""
    family = SEQUENCE_FAMILIES[config.family]
    known = tuple(sorted(items))
    torch.manual_seed(derive_seed(seed, "weights", config.family))
    network: Any = family.network(family.config(config.width, config.layers, len(known) + FIRST_ITEM, config.dropout))
    return SequenceModel(network.to(device).eval(), known, family)


def save_sequence(model: SequenceModel, folder: Path) -> None:
    """Weights as safetensors, and the items."""
    model.network.save_pretrained(str(folder))
    (folder / ITEMS_FILE).write_text(json.dumps(model.items, ensure_ascii=False), encoding="utf-8")


def is_sequence(folder: Path) -> bool:
    """Whether a folder holds such a model instead of a language model."""
    return (folder / ITEMS_FILE).is_file()


def load_sequence(folder: Path, device: torch.device) -> SequenceModel:
    """A model that `save_sequence` wrote. Nothing in the folder is executed or unpickled.

    Raises:
        ModelError: the folder holds something else.
    """
    try:
        items = tuple(json.loads((folder / ITEMS_FILE).read_text(encoding="utf-8")))
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
        (family,) = [one for one in SEQUENCE_FAMILIES.values() if one.model_type == kind]
        network: Any = family.network.from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False, local_files_only=True, dtype=torch.float32
        )
        if network.config.vocab_size != len(items) + FIRST_ITEM:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"the sequence model in {folder.name!r} does not load ({type(error).__name__}); run the audit again, so that "
            "it is trained anew"
        ) from error
    return SequenceModel(network.to(device).eval(), items, family)
