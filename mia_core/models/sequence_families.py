"""The transformers over items that can be audited: what each is, and how it is read.

Pages show them: torch and transformers are loaded where a network is made or read, not with this module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import GPT2Config, PreTrainedModel, XLNetConfig

PADDING, START, END, HIDDEN, FIRST_ITEM = range(5)
"""Tokens: PADDING after a row that is shorter than others, START before the first item, END after the last, HIDDEN in place
of an item; then the items."""

LONGEST = 1_022
"""Items that can be read at once; of a longer history the latest count."""

HEADS = 8


@dataclass(frozen=True)
class SequenceFamily:
    """One architecture."""

    name: str
    title: str
    masked: bool
    """Trained to fill gaps from both sides; else on each next item from those before it."""
    model_type: str
    """What transformers calls it."""
    network_type: str
    """What transformers calls its network."""
    config: Callable[[int, int, int, float], Any]
    """(width, layers, vocabulary, dropout) -> transformers' configuration."""
    vectors_at: Callable[[Any, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    """(network, tokens (n, length), rows, places) -> hidden vectors (asked, layers, width) at the asked places."""

    @property
    def network(self) -> type[PreTrainedModel]:
        """The class of its networks."""
        import transformers

        found: type[PreTrainedModel] = getattr(transformers, self.network_type)
        return found


def _xlnet(width: int, layers: int, vocabulary: int, dropout: float) -> XLNetConfig:
    """Learns to fill in hidden items from what stands before and after them.

    Formula: log p(history) = sum over items i of log p(i | the others, i hidden), p = softmax(vector · item vectors)
    Source: Yang et al., NeurIPS 2019, arXiv 1906.08237 (XLNet); as in Transformers4Rec, de Souza Pereira Moreira et al., RecSys
        2021.
    Differs: masked-item training in which a history may be hidden altogether, so that its first item, too, is told by a model
        that has met such a question.
    Fails: A recommender never sees what comes after: its figures for items in the middle are not what is served.
    """
    from transformers import XLNetConfig

    return XLNetConfig(
        vocab_size=vocabulary,
        d_model=width,
        d_inner=4 * width,
        n_layer=layers,
        n_head=HEADS,
        dropout=dropout,
        mem_len=None,
        use_mems_eval=False,
        pad_token_id=PADDING,
    )


def _xlnet_at(network: Any, tokens: torch.Tensor, rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    from mia_core.models.xlnet import vectors_at

    return vectors_at(network, tokens, rows, places)


def _sasrec(width: int, layers: int, vocabulary: int, dropout: float) -> GPT2Config:
    """Reads from left to right: each item is told from those before it.

    Formula: log p(history) = sum over items t of log p(i_t | i_1, ..., i_(t-1)), p = softmax(vector · item vectors)
    Source: Kang and McAuley, ICDM 2018, arXiv 1808.09781 (SASRec).
    Differs: causal blocks as in GPT-2; all items stand in the loss instead of one drawn negative.
    Fails: It learns short sessions by heart within a few epochs: how long it was trained decides what can be found.
    """
    from transformers import GPT2Config

    return GPT2Config(
        vocab_size=vocabulary,
        n_embd=width,
        n_layer=layers,
        n_head=HEADS,
        n_positions=LONGEST + 2,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        use_cache=False,
        pad_token_id=PADDING,
        bos_token_id=START,
        eos_token_id=END,
    )


def _sasrec_at(network: Any, tokens: torch.Tensor, rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    import torch

    # What stands behind a place, padding too, is not seen from there.
    layers = network.transformer(input_ids=tokens, output_hidden_states=True).hidden_states[1:]
    return torch.stack([layer[rows, places] for layer in layers], dim=1)


SEQUENCE_FAMILIES: dict[str, SequenceFamily] = {
    "xlnet": SequenceFamily("xlnet", "XLNet over items", True, "xlnet", "XLNetLMHeadModel", _xlnet, _xlnet_at),
    "sasrec": SequenceFamily("sasrec", "SASRec", False, "gpt2", "GPT2LMHeadModel", _sasrec, _sasrec_at),
}
"""Both share one table of vectors between input and output.

Source: xlnet as in Transformers4Rec (de Souza Pereira Moreira et al., RecSys 2021), masked-item training. Differs: a
history may be hidden altogether, so that its first item, too, is told by a model that has met such a question.
sasrec after Kang and McAuley 2018, arXiv 1808.09781: causal, learned positions. Differs: blocks as in GPT-2, all items
in the loss instead of one drawn negative.
"""
