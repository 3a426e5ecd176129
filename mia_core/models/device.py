"""What this machine computes on."""

from __future__ import annotations

import torch

from mia_core.errors import ModelError


def choose_device(wish: str) -> torch.device:
    """The device to run on: CUDA where there is one, else the CPU.

    Raises:
        ModelError: "cuda" was asked for and there is none.
    """
    if wish == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            "device is 'cuda', and this machine has no CUDA GPU that torch can use; choose 'auto' or 'cpu'"
        )
    return torch.device("cuda" if wish != "cpu" and torch.cuda.is_available() else "cpu")


def use_threads(count: int) -> None:
    """How many CPU threads torch shares a product out over."""
    torch.set_num_threads(count)


def device_name(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def resolve_precision(precision: str, device: torch.device) -> str:
    """float32 or bfloat16: "auto" is bfloat16 where the GPU computes it."""
    if precision != "auto":
        return precision
    return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
