"""The language-model families that can be audited, and their small offline forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from transformers import GPT2Config, LlamaConfig, PretrainedConfig, T5Config

LONGEST_SEQUENCE = 1_024
"""Tokens that an offline model can read at once."""


@dataclass(frozen=True)
class Family:
    """One architecture."""

    name: str
    title: str
    encoder_decoder: bool
    offline: Callable[[int, int, int, float], PretrainedConfig]
    """(width, layers in all, vocabulary, dropout) -> configuration of a small model; token 0 pads, 1 ends, 2 is unknown."""


def _heads(width: int) -> int:
    return max(1, width // 32)


def _t5(width: int, layers: int, vocabulary: int, dropout: float) -> PretrainedConfig:
    config = T5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=width // _heads(width),
        d_ff=4 * width,
        num_layers=layers // 2,
        num_decoder_layers=layers // 2,
        num_heads=_heads(width),
        dropout_rate=dropout,
        pad_token_id=0,
        eos_token_id=1,
    )
    config.decoder_start_token_id = 0
    return config


def _gpt2(width: int, layers: int, vocabulary: int, dropout: float) -> PretrainedConfig:
    return GPT2Config(
        vocab_size=vocabulary,
        n_embd=width,
        n_layer=layers,
        n_head=_heads(width),
        n_positions=LONGEST_SEQUENCE,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=1,
    )


def _llama(width: int, layers: int, vocabulary: int, dropout: float) -> PretrainedConfig:
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=8 * width // 3,
        num_hidden_layers=layers,
        num_attention_heads=_heads(width),
        num_key_value_heads=_heads(width),
        max_position_embeddings=LONGEST_SEQUENCE,
        attention_dropout=dropout,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=1,
    )


FAMILIES: dict[str, Family] = {
    "t5": Family("t5", "T5", True, _t5),
    "gpt2": Family("gpt2", "GPT-2", False, _gpt2),
    "llama": Family("llama", "LLaMA", False, _llama),
}
