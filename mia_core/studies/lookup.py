"""One person's pasted history, scored by an audit's leading attack and compared with people scored the same way.

Nobody who pastes a history knows how the trainer cut it into windows, so it is scored at every offset and the highest
score counts; calibration users are scored in just this way, on as many of their latest items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mia_core.attacks.catalogue import configured
from mia_core.audit import estimate
from mia_core.audit.gathering import gather, possible
from mia_core.audit.stages import VERSION, Run
from mia_core.data.prompts import Event, Samples
from mia_core.errors import DataError, NotFound
from mia_core.evaluate.calibration import FEWEST, conservative_p_value, share_below, strata
from mia_core.experiment import Runtime
from mia_core.keys import content_key
from mia_core.pipeline import divide, reopen
from mia_core.report.lookup import flag_at_every_offset
from mia_core.report.results import LookupResult, read_result
from mia_core.seeds import generator
from mia_core.storage.store import Store
from mia_core.types import Progress, Role, StagePlan

COMPARED_MEMBERS = 60
"""Members scored beside the calibration users, at random: for the picture, and to count a prior's update on."""
OPEN, COMPARE, SCORE = "Open the audit", "Score the calibration users at every offset", "Score this history"


def lookup_history(
    audit_key: str, history: Sequence[str], store: Store, progress: Progress, runtime: Runtime
) -> LookupResult:
    """What the audit's leading attack says of a history that is given as titles or item ids, the oldest first.

    Raises:
        NotFound: there is no such audit.
        DataError: the history is empty.
    """
    progress.plan([StagePlan(OPEN, 2.0), StagePlan(COMPARE, 30.0), StagePlan(SCORE, 2.0)])
    progress.start(OPEN)
    run, attack_name = reopened(audit_key, store, progress, runtime)
    progress.finish(OPEN, cached=False)
    matched, unmatched = match(history, run)
    window, shortest = run.writer.window, run.writer.shortest
    found = LookupResult(
        subject="pasted history",
        role="",
        attack=attack_name,
        windows=0,
        matched=len(matched),
        unmatched=unmatched,
        score=None,
        p_value=None,
        calibration_users=0,
        share_below=None,
        member_scores=[],
        held_out_scores=[],
    )
    if len(matched) < shortest:
        reason = (
            f"cannot be scored: {len(matched)} of {len(matched) + len(unmatched)} lines were found in the catalogue, and "
            f"one window takes {shortest}; paste more titles, written as in the data"
        )
        return LookupResult(**{**found.__dict__, "reason": reason})
    scorer = Scorer(run, attack_name)
    length = min(len(matched), run.experiment.prompt.windows * window + window - 1)
    progress.start(COMPARE)
    held_out, members = scorer.comparison(length)
    if run.experiment.evaluation.compared_with == "like":
        like = _like(matched[-length:], run) & ~np.isnan(held_out)
        held_out = held_out[like] if like.sum() >= FEWEST else held_out
    held_out = held_out[~np.isnan(held_out)]
    progress.finish(COMPARE, cached=False)
    progress.start(SCORE)
    score = float(scorer.scores({"": matched[-length:]})[0])
    progress.finish(SCORE, cached=False)
    return LookupResult(
        **{
            **found.__dict__,
            "windows": max(1, length // window),
            "score": score,
            "p_value": conservative_p_value(score, held_out),
            "calibration_users": len(held_out),
            "share_below": share_below(score, held_out),
            "member_scores": [float(value) for value in members],
            "held_out_scores": [float(value) for value in held_out],
            "flag": flag_at_every_offset(score, members, held_out, run.experiment.seed),
        }
    )


def match(history: Sequence[str], run: Run) -> tuple[list[Event], list[str]]:
    """(events of the lines that are titles or ids of the catalogue, lines that are neither)."""
    by_text = {title.casefold(): item for item, title in run.writer.titles.items()}
    matched, unmatched = [], []
    lines = [line.strip() for line in history if line.strip()]
    if not lines:
        raise DataError("the history is empty; give one title or item id a line, the oldest first")
    for line in lines:
        item = line if line in run.writer.titles else by_text.get(line.casefold())
        if item is None:
            unmatched.append(line)
        else:
            # What the person thought of an item is not pasted: it counts as liked.
            matched.append(run.writer.event(item, float("inf")))
    return matched, unmatched


def _like(history: Sequence[Event], run: Run) -> np.ndarray:
    """(n_held_out,) which audited held-out users have a history about as long and as popular, once cut as short."""
    held_out = [run.events.get(user, [])[-len(history) :] for user in run.split.users(Role.AUDITED_HELD_OUT)]
    everybody = [*held_out, history]
    popularity = [np.mean([run.popularity.get(event.item, 0.0) for event in events] or [0.0]) for events in everybody]
    counted = np.arange(len(everybody)) < len(held_out)
    kinds = strata(np.array([len(events) for events in everybody]), np.array(popularity), calibrating=counted)
    like: np.ndarray = kinds[:-1] == kinds[-1]
    return like


def reopened(audit_key: str, store: Store, progress: Progress, runtime: Runtime) -> tuple[Run, str]:
    """(the run of a finished audit, the name of its leading attack).

    Raises:
        NotFound: there is no such audit, or its data are gone.
    """
    folder = store.find(audit_key)
    if folder is None:
        raise NotFound("there is no such audit in the store; list the audits and choose one")
    result = read_result(folder)
    return reopen(result, store, progress, runtime), result.lead


@dataclass
class Scorer:
    """Scores histories at every offset with one audit's models and its attack, fitted on the same known users."""

    run: Run
    attack_name: str

    def __post_init__(self) -> None:
        run = self.run
        self.attack = configured(self.attack_name, run.experiment.attacks.settings.get(self.attack_name, {}))
        wanted = {"target", "base", *(need.rstrip("?") for need in self.attack.needs)}
        self.needs = [n for n in estimate.needs(run.experiment) if n in wanted and not possible(run, n)]
        roles = np.array([run.split.roles[user] for user in run.scored], dtype=object)
        evidence = gather(run, run.samples, self.needs, announce=False)
        self.known, _, _ = divide(run, evidence, roles)

    def comparison(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """(scores of the audited held-out users in order, NaN where there is none; scores of some members).

        Each is scored on at most `length` latest items.
        """
        run = self.run
        held_out = run.split.users(Role.AUDITED_HELD_OUT)
        members = run.split.users(Role.AUDITED_MEMBER)
        shown = generator(run.experiment.seed, "compared members").permutation(members)[:COMPARED_MEMBERS]
        everybody = [*held_out, *(str(user) for user in shown)]
        settings = {
            "attack": self.attack_name,
            "length": length,
            "experiment": run.experiment.model_dump(exclude={"data", "name"}),
        }
        # A classic recommender is made anew from the same settings; it has no weights of its own to be told apart by.
        model = [] if run.experiment.kind == "recommender" else [run.target.key]
        key = content_key("offset scores", VERSION, settings, [run.split_key, *model])

        def write(folder: Path) -> None:
            histories = {user: run.events.get(user, [])[-length:] for user in everybody}
            np.save(folder / "scores.npy", self.scores(histories))

        scores = np.load(run.store.build(key, "scores", write, keep=True) / "scores.npy", allow_pickle=False)
        shown_scores = scores[len(held_out) :]
        return scores[: len(held_out)], shown_scores[~np.isnan(shown_scores)]

    def scores(self, histories: dict[str, list[Event]]) -> np.ndarray:
        """(n,) highest score over all window offsets; NaN where a history holds no window."""
        run, window = self.run, self.run.writer.window
        groups: list[list[Sequence[Event]]] = []
        owner: list[int] = []
        for i, history in enumerate(histories.values()):
            # A whole history is one window, however long: it has no offsets.
            offsets = 1 if run.writer.style.whole else min(window, len(history) - window + 1)
            for offset in range(offsets):
                shortened = history[: len(history) - offset]
                groups.append(run.writer.windows(shortened, run.experiment.prompt.windows))
                owner.append(i)
        if not groups:
            return np.full(len(histories), np.nan)
        # No user's id begins with a line break: nobody here is mistaken for somebody of the audit.
        samples: Samples = run.writer.write([f"\n{i}" for i in range(len(groups))], groups)
        evidence = gather(run, samples, self.needs, announce=False, keep=False)
        values = self.attack.score(evidence, self.known)
        best = np.full(len(histories), np.nan)
        for i, value in zip(owner, values, strict=True):
            best[i] = np.fmax(best[i], value)
        return best
