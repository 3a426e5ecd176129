"""The language-model families that can be audited, and their small offline forms.

Pages show them: transformers is loaded where a configuration is made, not with this module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig

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
    """An encoder reads the question, a decoder writes the answer.

    Formula: log p(answer | question) = sum over answer tokens t of log p(x_t | x_1, ..., x_(t-1), encoder(question))
    Source: Raffel et al., JMLR 21 (2020), arXiv 1910.10683 (T5); as a recommender: Geng et al., RecSys 2022, arXiv 2203.13366
        (P5).
    Fails: The question is read once and never predicted, so that only answers show what was learned of a history.
    """
    from transformers import T5Config

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
    """One stack of layers reads the question and goes on with the answer.

    Formula: log p(answer | question) = sum over answer tokens t of log p(x_t | question, x_1, ..., x_(t-1))
    Source: Radford et al. 2019, Language Models are Unsupervised Multitask Learners (GPT-2).
    Fails: It reads at most 1,024 tokens here; of a longer question nothing can be asked.
    """
    from transformers import GPT2Config

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
    """As GPT-2, with rotary positions, gated layers and root-mean-square norms.

    Formula: log p(answer | question) = sum over answer tokens t of log p(x_t | question, x_1, ..., x_(t-1))
    Source: Touvron et al. 2023, arXiv 2302.13971 (LLaMA); as a recommender: Bao et al., RecSys 2023, arXiv 2305.00447 (TALLRec).
    Fails: Published weights may have seen public data sets before fine-tuning: the base then knows members and others alike,
        and less is left to find.
    """
    from transformers import LlamaConfig

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
