"""The nouns that every floor of the house shares."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Role(StrEnum):
    """What one user is for in an audit. Every user has exactly one role."""

    PUBLIC = "public"
    """Third-party data: pre-trains the offline base, feeds every count, trains soft-only references."""
    KNOWN_MEMBER = "known_member"
    """A member whose membership the auditor knows: trains the attack classifiers."""
    KNOWN_HELD_OUT = "known_held_out"
    """A held-out user whose membership the auditor knows: trains the attack classifiers."""
    AUDITED_MEMBER = "audited_member"
    """A member whose truth is joined in evaluation only."""
    AUDITED_HELD_OUT = "audited_held_out"
    """A held-out user whose truth is joined in evaluation only; also a calibration user."""
    JUDGED = "judged"
    """A user whose membership nobody here knows (bring your own target)."""

    @property
    def known(self) -> bool:
        """Whether the auditor may use this user's membership."""
        return self in (Role.KNOWN_MEMBER, Role.KNOWN_HELD_OUT)

    @property
    def member(self) -> bool | None:
        """True for members, False for held-out users, None where nobody knows or it does not apply."""
        if self in (Role.KNOWN_MEMBER, Role.AUDITED_MEMBER):
            return True
        if self in (Role.KNOWN_HELD_OUT, Role.AUDITED_HELD_OUT):
            return False
        return None


@dataclass(frozen=True)
class Unit:
    """What one row of an audit is. Sentences are written for users; `say` turns them into what is true of this unit."""

    one: str
    many: str
    instead: Mapping[str, str]
    """Words on users, in small letters, and what is said instead."""

    def say(self, sentence: str) -> str:
        """A sentence of ours in the words of this unit; it must hold nothing that comes from anyone's data."""

        def replaced(found: re.Match[str]) -> str:
            words = self.instead[found[0].lower()]
            return words[0].upper() + words[1:] if found[0][0].isupper() else words

        # Of two that begin alike the longer one is meant.
        known = "|".join(sorted(self.instead, key=len, reverse=True))
        return re.sub(rf"\b({known})\b", replaced, sentence, flags=re.IGNORECASE) if known else sentence


USER = Unit("user", "users", {})
SESSION = Unit(
    "session",
    "sessions",
    {
        "user": "session",
        "users": "sessions",
        "person": "session",
        "people": "sessions",
        "who": "which",
        "whom": "which",
        "the same people": "the same stream of sessions",
        "somebody whose": "a session whose",
        "about anybody": "about any session",
        "anybody's data": "any session's data",
        "anybody else": "any other session",
        "everybody else": "every other session",
        "nobody audited": "no audited session",
        "nobody can be named": "no session can be named",
        "nobody else": "no other session",
        "whoever is": "whatever is",
        "its owner": "it",
        "all customers of one shop": "all sessions of one day",
        "the oldest customers": "the longest sessions",
    },
)
UNITS = {"user": USER, "session": SESSION}
"""By `Interactions.unit`."""


@dataclass(frozen=True)
class Metric:
    """One figure with its interval."""

    attack: str
    metric: str
    """auc, accuracy, balanced_accuracy, precision, recall, f1, tpr_at_fpr_0.001, …_0.01, …_0.05, …_0.1,
    precision_at_recall_0.1, …_0.5, …_0.9."""
    value: float | None
    """None where these users cannot resolve it; `reason` then says why."""
    low: float | None
    high: float | None
    n: int
    """Users the figure rests on."""
    reason: str = ""
    fpr_limit: float | None = None
    """Of a TPR: upper limit of the FPR at its threshold. None for every other figure."""


@dataclass(frozen=True)
class Gate:
    """Outcome of one check that must hold before any result is believed."""

    name: str
    """blind, placebo, null."""
    passed: bool
    statistic: float | None
    p_value: float | None
    """Of all tests of this gate together; None where there was nothing to test."""
    n: int
    sentence: str
    """What was tested, and the result."""
    way_out: str
    """What to do where it fails."""


@dataclass(frozen=True)
class StagePlan:
    """One stage of a run and how long it is expected to take."""

    name: str
    seconds: float


class Progress(Protocol):
    """Told by the pipeline what is going on; shown by the job page or the command line."""

    def plan(self, stages: Sequence[StagePlan]) -> None:
        """Announce all stages, in order, with the seconds each is expected to take."""

    def start(self, stage: str) -> None:
        """A stage begins."""

    def advance(self, fraction: float) -> None:
        """The running stage is done to this fraction (0 to 1). Called often: throttle when storing."""

    def finish(self, stage: str, cached: bool) -> None:
        """A stage ended; `cached` when its result came from the store."""

    def tell(self, figure: str, row: Mapping[str, float | str | None]) -> None:
        """A first figure, long before the result: one more row of `training` or of `scores`."""


class Silent:
    """A Progress that shows nothing."""

    def plan(self, stages: Sequence[StagePlan]) -> None: ...

    def start(self, stage: str) -> None: ...

    def advance(self, fraction: float) -> None: ...

    def finish(self, stage: str, cached: bool) -> None: ...

    def tell(self, figure: str, row: Mapping[str, float | str | None]) -> None: ...
