"""One language model with its tokenizer, behind the few calls that training, distilling and observing need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from mia_core.models.llm.families import LONGEST_SEQUENCE, Family
from mia_core.observe.observations import AnswerOutputs, Encoded

TEXTS_AT_ONCE = 10_000
"""That are given to a tokenizer together."""


@dataclass
class LanguageModel:
    """A network, its tokenizer and its family."""

    network: Any
    """A transformers PreTrainedModel, or peft's PeftModel around one."""
    tokenizer: PreTrainedTokenizerBase
    family: Family
    padding_side: str = "left"
    """Side on which prompts are padded; changes nothing but rounding."""
    autocast: torch.dtype | None = None
    """Precision of matrix products on a GPU; None: that of the weights."""
    tokens_at_once: int = 6_000
    """Tokens that one batch of observations holds."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    @property
    def plain_network(self) -> Any:
        """The transformers model, LoRA layers included, without peft's wrapper."""
        return self.network.get_base_model() if isinstance(self.network, PeftModel) else self.network

    @property
    def longest(self) -> int:
        """Tokens that fit into one sequence."""
        limit = getattr(self.plain_network.config, "max_position_embeddings", None)
        return min(limit, 4 * LONGEST_SEQUENCE) if limit else LONGEST_SEQUENCE

    @contextmanager
    def adapter_off(self) -> Iterator[LanguageModel]:
        """The same model as it was before LoRA tuning."""
        switched = self.network.disable_adapter() if isinstance(self.network, PeftModel) else nullcontext()
        with switched:
            yield self

    def add_embedding_noise(self, scale: float, seed: int) -> LanguageModel:
        """The same model, which from now on hears every token a little wrong: see `add_noise_to_embeddings`."""
        add_noise_to_embeddings(self.plain_network, scale, seed)
        return self

    def encode(self, prompts: Sequence[str], answers: Sequence[str]) -> list[Encoded]:
        """Token ids; answers end with the end token. A prompt that is too long loses its oldest part, an answer its end."""
        # The same tokens in every family, so that a student of another family answers in the teacher's tokens.
        replied = self._token_ids(" " + answer for answer in answers)
        end = self.tokenizer.eos_token_id
        encoded = []
        for prompt, reply in zip(self._token_ids(prompts), replied, strict=True):
            answer = (*reply[: min(self.longest, LONGEST_SEQUENCE) - 2], end)
            room = max(1, self.longest - len(answer))
            encoded.append(Encoded(prompt[-room:], answer))
        return encoded

    def _token_ids(self, texts: Iterable[str]) -> Iterator[tuple[int, ...]]:
        """The ids of one text after the other: what a tokenizer holds of a text beside them takes far more room."""
        same: dict[int, int] = {}  # One object for all tokens that are the same.
        rest = iter(texts)
        while part := list(islice(rest, TEXTS_AT_ONCE)):
            found = self.tokenizer(part, add_special_tokens=False, return_attention_mask=False)["input_ids"]
            yield from (tuple(same.setdefault(token, token) for token in ids) for ids in found)

    def texts(self, tokens: Sequence[int]) -> list[str]:
        """Each token as text, with the space that stands before a word; what marks an end is in brackets."""
        marks = set(self.tokenizer.all_special_ids)
        pieces = self.tokenizer.convert_ids_to_tokens(list(tokens))
        found = []
        for token, piece in zip(tokens, pieces, strict=True):
            space = " " if piece.startswith("\u2581") else ""
            plain = self.tokenizer.convert_tokens_to_string([piece])
            found.append("[end]" if token in marks else space + plain.lstrip() if space else plain)
        return found

    def asked_in_training(self, batch: Sequence[Encoded]) -> Sequence[Encoded]:
        """The batch as it is trained on: as it is."""
        return batch

    def answer_outputs(self, batch: Sequence[Encoded], *, pooled: bool = False) -> AnswerOutputs:
        """Logits (and pooled hidden vectors) at the answer positions, from one forward pass."""
        mixed = torch.autocast(self.device.type, dtype=self.autocast) if self.autocast is not None else nullcontext()
        with mixed:
            if self.family.encoder_decoder:
                return self._encoder_decoder(batch, pooled)
            return self._decoder_only(batch, pooled)

    def _encoder_decoder(self, batch: Sequence[Encoded], pooled: bool) -> AnswerOutputs:
        prompt, prompt_mask = self.padded([sample.prompt for sample in batch], self.padding_side)
        labels, mask = self.padded([sample.answer for sample in batch], "right")
        start = torch.full_like(labels[:, :1], self.plain_network.config.decoder_start_token_id)
        outputs = self.plain_network(
            input_ids=prompt,
            attention_mask=prompt_mask.long(),
            decoder_input_ids=torch.cat([start, labels[:, :-1]], dim=1),
            output_hidden_states=pooled,
            use_cache=False,
        )
        vectors = None
        if pooled:
            encoder = [_masked_mean(layer, prompt_mask) for layer in outputs.encoder_hidden_states[1:]]
            decoder = [_masked_mean(layer, mask) for layer in outputs.decoder_hidden_states[1:]]
            vectors = torch.stack([*encoder, *decoder], dim=1)
        return AnswerOutputs(outputs.logits, labels, mask, vectors)

    def _decoder_only(self, batch: Sequence[Encoded], pooled: bool) -> AnswerOutputs:
        """The answer's logits are read one position before each answer token."""
        tokens, token_mask = self.padded([sample.prompt + sample.answer for sample in batch], self.padding_side)
        labels, mask = self.padded([sample.answer for sample in batch], "right")
        lengths = token_mask.sum(1)
        first = lengths - mask.sum(1) - 1
        if self.padding_side == "left":
            first = first + tokens.shape[1] - lengths
        positions = (first[:, None] + torch.arange(labels.shape[1], device=self.device)).clamp(
            min=0, max=tokens.shape[1] - 1
        )
        network = self.plain_network
        outputs = network.base_model(
            input_ids=tokens,
            attention_mask=token_mask.long(),
            position_ids=(token_mask.long().cumsum(1) - 1).clamp(min=0),
            output_hidden_states=pooled,
            use_cache=False,
        )
        rows = torch.arange(len(batch), device=self.device)[:, None]
        logits = network.get_output_embeddings()(outputs.last_hidden_state[rows, positions])
        vectors = None
        if pooled:
            layers = [_masked_mean(layer[rows, positions], mask) for layer in outputs.hidden_states[1:]]
            vectors = torch.stack(layers, dim=1)
        return AnswerOutputs(logits, labels, mask, vectors)

    def padded(self, rows: Sequence[tuple[int, ...]], side: str) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, longest) tokens and the mask that tells them from padding, on the model's device."""
        width = max(1, max(len(row) for row in rows))
        tokens = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros(len(rows), width, dtype=torch.bool)
        for i, row in enumerate(rows):
            place = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
            tokens[i, place] = torch.tensor(row, dtype=torch.long)
            mask[i, place] = True
        return tokens.to(self.device), mask.to(self.device)


def add_noise_to_embeddings(network: Any, scale: float, seed: int) -> None:
    """Makes a network hear every token a little wrong from now on.

    Source: Galli et al. 2024, arXiv 2406.16565 (noise on input embeddings).
    Differs: the noise is drawn once per token of the vocabulary, so that what a sample gets does not depend on its
    batch; `scale` is in units of the embeddings' own standard deviation.
    """
    table = network.get_input_embeddings().weight
    draw = torch.Generator().manual_seed(seed)
    noise = torch.randn(table.shape, generator=draw).to(table) * (scale * table.detach().std())

    def hear(module: torch.nn.Module, asked: tuple[torch.Tensor, ...], heard: torch.Tensor) -> torch.Tensor:
        return heard + noise[asked[0]]

    for module in network.modules():
        if isinstance(module, torch.nn.Embedding) and module.weight.data_ptr() == table.data_ptr():
            module.register_forward_hook(hear)


def _masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    weights = mask[..., None].to(values.dtype)
    return (values * weights).sum(1) / weights.sum(1).clamp(min=1)
