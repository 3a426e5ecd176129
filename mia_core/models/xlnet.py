"""XLNet read where it is asked: the same vectors as transformers' model gives, for two thirds of the work."""

from __future__ import annotations

from typing import Any

import torch


def vectors_at(network: Any, tokens: torch.Tensor, rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """(asked, layers, width) hidden vectors at some places of rows that were padded to one length.

    Args:
        network: an XLNetLMHeadModel.
        tokens: (n, length), with the configuration's padding token after shorter rows.
        rows: (asked,) which row each asked place is in.
        places: (asked,) where in it.
    Differs: positions are looked up once for all rows instead of for each (so dropout, too, falls alike on them), and
    the last layer goes on after its attention with the asked places alone.
    """
    body = network.transformer
    length = tokens.shape[1]
    # 1 where nobody may look, as (any asker, looked at, row, any head).
    unseen = network.config.pad_token_id == tokens.T
    hidden = unseen.to(body.word_embedding.weight.dtype)[None, :, :, None]
    states = body.dropout(body.word_embedding(tokens.T))
    positions = body.dropout(body.relative_positional_encoding(length, length, device=tokens.device))
    found = []
    for layer in body.layer[:-1]:
        states, _ = layer(states, None, hidden, None, positions, None)
        found.append(states[places, rows])
    last = body.layer[-1]
    attention = last.rel_attn
    query, key, value = (torch.einsum("ibh,hnd->ibnd", states, w) for w in (attention.q, attention.k, attention.v))
    steps = torch.einsum("ibh,hnd->ibnd", positions, attention.r)
    attended = attention.rel_attn_core(query, key, value, steps, attn_mask=hidden)
    asked = last.ff(attention.post_attention(states[places, rows][None], attended[places, rows][None]))
    found.append(body.dropout(asked[0]))
    return torch.stack(found, dim=1)
