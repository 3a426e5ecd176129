"""What was done about a leak: comparisons of defences and checks of forgetting that belong to an audit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mia_core.report.defending import onion_sentences, read_defenses, read_trade, recommendation
from mia_core.report.forgetting import read_forgetting, verdict_sentences
from mia_core.report.results import AuditResult
from mia_core.storage.store import Store

OF_THE_TARGET = ("split", "prompt", "base", "target", "recommender")
"""Sections of a config that say what was audited."""


@dataclass(frozen=True)
class FollowUp:
    """One comparison or check, in words."""

    kind: str
    """defenses or forgetting."""
    key: str
    name: str
    sentences: list[str]


def follow_ups(store: Store, result: AuditResult) -> list[FollowUp]:
    """Those of the same target on the same data, the newest first."""
    found = []
    for entry in store.entries("defenses"):
        tried = read_defenses(entry.path)
        if _same_target(tried.config["experiment"], result) and result.data["key"] in tried.data:
            figures = read_trade(entry.path)
            sentences = [*recommendation(tried, figures), *onion_sentences(tried)]
            found.append(FollowUp("defenses", entry.key, entry.name, sentences))
    for entry in store.entries("forgetting"):
        checked = read_forgetting(entry.path)
        if _same_target(checked.config["experiment"], result) and checked.data["key"] == result.data["key"]:
            sentences = [f"{one.title}. {verdict_sentences(one, checked.unit)[0]}" for one in checked.outcomes]
            found.append(FollowUp("forgetting", entry.key, entry.name, sentences))
    return found


def _same_target(experiment: dict[str, Any], result: AuditResult) -> bool:
    """Whether both say the same of the target, precision aside, which depends on the machine alone."""

    def told(config: dict[str, Any]) -> Any:
        return _without_precision({name: config.get(name) for name in OF_THE_TARGET})

    return bool(told(experiment) == told(result.config))


def _without_precision(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_precision(item) for name, item in value.items() if name != "precision"}
    return value
