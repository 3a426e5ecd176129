"""The transformer blocks of a network, whatever its family."""

from __future__ import annotations

import torch


def layer_stacks(network: torch.nn.Module) -> list[torch.nn.ModuleList]:
    """Each stack of blocks, in order: the encoder's and the decoder's, where there are two. Lists within a block do not
    count."""
    outer: list[torch.nn.ModuleList] = []
    waiting = [network]
    while waiting:
        module = waiting.pop(0)
        if isinstance(module, torch.nn.ModuleList):
            outer.append(module)
        else:
            waiting.extend(module.children())
    return outer


def freeze_topmost(network: torch.nn.Module, layers: int) -> None:
    """Keeps training from changing so many of the last blocks of each stack, adapters within them included."""
    for stack in layer_stacks(network):
        for block in list(stack)[-layers:]:
            block.requires_grad_(False)
