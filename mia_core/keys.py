"""Content keys: equal inputs and settings give the same key, any difference gives another."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel


def canonical(value: Any) -> Any:
    """Plain JSON data that stands for a config, every field included, defaults too.

    Raises:
        TypeError: a value has no canonical form (a path, a function, a set, a NaN): it must not slip into a key.
    """
    if isinstance(value, BaseModel):
        return {name: canonical(getattr(value, name)) for name in sorted(type(value).model_fields)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = sorted(field.name for field in dataclasses.fields(value))
        return {"": type(value).__name__, **{name: canonical(getattr(value, name)) for name in fields}}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): canonical(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{value} cannot be part of a content key")
        return value
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [canonical(item) for item in value]
    raise TypeError(f"{type(value).__name__} cannot be part of a content key")


def content_key(stage: str, version: int, config: Any, inputs: Sequence[str] = ()) -> str:
    """SHA-256 (hex) of a stage's name, version, config and the keys of what went in.

    Args:
        stage: the pipeline stage, such as ``"target"``.
        version: raised by hand when the stage's code changes its result; old artifacts are then not found.
        config: frozen config; every field counts.
        inputs: content keys of the stage's inputs, in order.
    """
    document = {"stage": stage, "version": version, "config": canonical(config), "inputs": list(inputs)}
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_key(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
