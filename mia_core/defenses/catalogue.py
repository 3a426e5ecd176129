"""Every defence by its name. A new defence is one class and one line here."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from mia_core.defenses.contract import Defense
from mia_core.defenses.selective import SpareTheRiskiest
from mia_core.defenses.serving import (
    ListShuffle,
    OutputNoise,
    PopularityRandomisation,
    Rounding,
    Temperature,
    TopK,
)
from mia_core.defenses.training import (
    CapRecords,
    ClipOnly,
    Deduplicate,
    DpSgdRecord,
    DpSgdUser,
    EarlyStopping,
    FewerEpochs,
    LabelSmoothing,
    LoraDropout,
    LoraRank,
    NoiseOnly,
    PrivateTraining,
    SkipLayers,
    WeightDecay,
)

if TYPE_CHECKING:
    from mia_core.experiment import Experiment

DEFENSES: dict[str, type[Defense]] = {
    defense.name: defense
    for defense in (
        DpSgdUser,
        DpSgdRecord,
        ClipOnly,
        NoiseOnly,
        CapRecords,
        Deduplicate,
        EarlyStopping,
        FewerEpochs,
        LoraRank,
        LoraDropout,
        SkipLayers,
        WeightDecay,
        LabelSmoothing,
        SpareTheRiskiest,
        Temperature,
        Rounding,
        TopK,
        OutputNoise,
        PopularityRandomisation,
        ListShuffle,
    )
}


def configured(name: str, settings: Mapping[str, Any]) -> Defense:
    """A defence with settings of its own.

    Raises:
        ValueError: there is no such defence, it has no such setting, or the value is of another type.
        ConfigError: the value is out of range.
    """
    if name not in DEFENSES:
        raise ValueError(f"{name!r} is no defence; did you mean {_nearest(name, DEFENSES)!r}?")
    fields = [field.name for field in dataclasses.fields(DEFENSES[name])]
    for setting in settings:
        if setting not in fields:
            meant = (
                f"did you mean {_nearest(setting, fields)!r}? It has {', '.join(fields)}" if fields else "it has none"
            )
            raise ValueError(f"{name} has no setting {setting!r}; {meant}")
    try:
        defense: Defense = TypeAdapter(DEFENSES[name]).validate_python(dict(settings))
    except ValidationError as error:
        (first, *_) = error.errors()
        field = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{name}.{field} is {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}") from None
    return defense


def combination_refusal(defenses: Sequence[Defense], experiment: Experiment) -> str:
    """Why these defences cannot be used together in this audit, and what to do; empty where they can."""
    names = [defense.name for defense in defenses]
    for name in names:
        if names.count(name) > 1:
            return f"{name} is named {names.count(name)} times; name it once"
    for defense in defenses:
        if refused := defense.refusal(experiment):
            return f"{defense.name}: {refused}"
    private = [defense.name for defense in defenses if isinstance(defense, PrivateTraining)]
    if len(private) > 1:
        return f"{' and '.join(private)} each say how a training step is clipped and noised; choose one of them"
    if private and EarlyStopping.name in names:
        return (
            f"{EarlyStopping.name} with {private[0]}: the steps of private training are planned and counted beforehand; take "
            f"{FewerEpochs.name} instead, which the count knows of"
        )
    return ""


def _nearest(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    return difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
