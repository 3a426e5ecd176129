"""What the evidence about one person would be without one of their interactions.

Each interaction is taken out of the window it stands in: where it belongs to the history, the question is asked with the
rest; where it is the answer, the window is left out. The other windows stay as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mia_core.audit.gathering import gather
from mia_core.data.prompts import Event
from mia_core.errors import NotFound
from mia_core.experiment import Runtime
from mia_core.report.results import WithoutResult, WithoutRow
from mia_core.storage.store import Store
from mia_core.studies.lookup import Scorer, reopened
from mia_core.types import Progress, Role, StagePlan

OPEN, SCORE = "Open the audit", "Score the history without each interaction"


@dataclass(frozen=True)
class _Left:
    """What is left of a person's windows when one interaction is gone."""

    window: int
    event: Event
    part: str
    windows: list[Sequence[Event]]


def score_without_each(audit_key: str, user: str, store: Store, progress: Progress, runtime: Runtime) -> WithoutResult:
    """The score of the audit's leading attack for an audited or judged user, whole and without each interaction.

    Raises:
        NotFound: there is no such audit, or no such user among those who are judged.
    """
    progress.plan([StagePlan(OPEN, 3.0), StagePlan(SCORE, 5.0)])
    progress.start(OPEN)
    run, attack = reopened(audit_key, store, progress, runtime)
    if run.split.roles.get(user) not in (Role.AUDITED_MEMBER, Role.AUDITED_HELD_OUT, Role.JUDGED):
        raise NotFound(
            f"user {user[:80]!r} is not among those whom this audit judges; known and public users were used to build it"
        )
    if run.experiment.target.serving == "prompt":
        raise NotFound(
            "a target that serves from its prompt has no windows that were trained on; nothing can be left out"
        )
    progress.finish(OPEN, cached=False)
    progress.start(SCORE)
    scorer = Scorer(run, attack)
    windows = run.writer.windows(run.events.get(user, []), run.experiment.prompt.windows)
    left = _without_each(windows, whole=run.writer.style.whole)
    # No user's id begins with a line break: nobody here is mistaken for somebody of the audit.
    names = [f"\n{i}" for i in range(len(left) + 1)]
    samples = run.writer.write(names, [windows, *(one.windows for one in left)])
    scores = scorer.attack.score(gather(run, samples, scorer.needs, announce=False, keep=False), scorer.known)
    whole = _number(scores[0])
    rows = []
    for one, score in zip(left, scores[1:], strict=True):
        value = _number(score)
        change = None if value is None or whole is None else value - whole
        rows.append(WithoutRow(one.window, one.event.item, one.event.title, one.part, value, change))
    progress.finish(SCORE, cached=False)
    return WithoutResult(user, attack, whole, rows)


def _without_each(windows: Sequence[Sequence[Event]], *, whole: bool) -> list[_Left]:
    found = []
    for number, window in enumerate(windows):
        for place, event in enumerate(window):
            rest = [*window[:place], *window[place + 1 :]]
            answer = not whole and place == len(window) - 1
            # A history of one item is no sequence, and a question without its answer is none.
            kept = [] if answer or len(rest) < 2 else [rest]
            others = [*windows[:number], *kept, *windows[number + 1 :]]
            found.append(_Left(number, event, "answer" if answer else "history", others))
    return found


def _number(score: float) -> float | None:
    return None if np.isnan(score) else float(score)
