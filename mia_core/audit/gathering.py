"""From models to evidence: every view, signal and list that the chosen attacks need, asked once and kept."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np

from mia_core.attacks.evidence import Background, Evidence, Known
from mia_core.audit import estimate
from mia_core.audit.errands import ask, make_each, models, send_questions
from mia_core.audit.exposures import exposures_of
from mia_core.audit.questions import MEASURED, Questions
from mia_core.audit.stages import Run
from mia_core.data.lists import ServedLists
from mia_core.data.prompts import Samples
from mia_core.observe.observations import Observations
from mia_core.observe.views import LISTS

FEWEST_SHADOW_USERS = 16


def possible(run: Run, need: str) -> str:
    """Why a need cannot be met in this audit, by its config or by its data; empty where it can."""
    told = estimate.impossible(run.experiment, need)
    if told:
        return told
    if need == "shadow_world" and len(run.public) < FEWEST_SHADOW_USERS:
        return (
            f"needs at least {FEWEST_SHADOW_USERS} third-party users for a recommender of the auditor's own, and there are "
            f"{len(run.public)}; raise split.public_share, or give more data"
        )
    if run.served is not None:
        return _possible_with_lists(run.served, run.public, need)
    model, _, variant = need.partition("/")
    if model in {"soft", "trajectory", "self_prompted"} and not run.public:
        return "needs third-party users, and every user of these data is known, calibrates or is judged"
    if variant.startswith("after_") and not run.asking.shots["held_out" if variant == "after_held_out" else "member"]:
        return "needs known users with at least one window"
    return ""


def _possible_with_lists(served: ServedLists, public: Sequence[str], need: str) -> str:
    if need == "self_prompted":
        known_lists = any(user in served.lists.get("history", {}) for user in public)
        return "" if known_lists else "needs lists of third-party users, from which a copy of the target can be trained"
    if need == "shadow_world":
        return ""
    asked = "no_history" if need == "lists/no_history" else "history"
    return "" if asked in served.lists else f"needs lists with question = {asked!r}, which target.lists does not hold"


def train(run: Run, needs: Sequence[str]) -> None:
    """Trains, or finds in the store, every model that the needs ask about."""
    for group in models(run, needs):
        make_each(run, group)


def gather(run: Run, samples: Samples, needs: Sequence[str], *, announce: bool = True, keep: bool = True) -> Evidence:
    """What the needs say about the samples; the students of all folds become one cross-fitted view.

    Args:
        keep: False leaves nothing in the store.
    """
    questions = Questions(run, keep)
    views: dict[str, Observations] = {}
    cross_fitted: dict[str, Sequence[Observations]] = {}
    signals = _signals(run, samples)
    lists: dict[str, np.ndarray] = {}
    world: Known | None = None
    background = run.background
    asked = {need: _asked(run, need) for need in needs if need != "shadow_world"}
    everybody = keep and samples is run.samples
    answers = send_questions(run, [name for names in asked.values() for name in names]) if everybody else {}
    for need in needs:
        with run.stage(estimate.observe_stage(need)) if announce else nullcontext():
            if need == "shadow_world":
                background = replace(background, item_vectors=exposures_of(run).item_vectors)
                world = _shadow_world(run, needs, background)
                continue
            found = {}
            for name in asked[need]:
                with run.expecting(answers.get(name)):
                    found[name] = ask(questions, name, samples)
            if need in LISTS:
                lists |= found
            elif need in MEASURED:
                signals |= found
            else:
                if need == "student":
                    cross_fitted["student"] = list(found.values())
                else:
                    views |= found
    return Evidence(
        users=samples.users,
        user_index=samples.user_index,
        views=views,
        cross_fitted=cross_fitted,
        shadow_in=_coins(run, samples) if "shadows" in needs else None,
        signals=signals,
        lists=lists,
        background=background,
        shadow_world=world,
    )


def _asked(run: Run, need: str) -> list[str]:
    """What is asked for one need: the need itself, or its views."""
    return [need] if need in (*LISTS, *MEASURED) else estimate.views(run.experiment, need)


def _shadow_world(run: Run, needs: Sequence[str], background: Background) -> Known:
    """What the auditor's own recommender shows of people whose membership in it is known."""
    exposures = exposures_of(run)
    world = exposures.shadow
    samples = run.windows([*world.members, *world.held_out])
    lists = {need: exposures.lists(need, samples, world) for need in needs if need in LISTS}
    evidence = Evidence(
        samples.users, samples.user_index, {}, signals=_signals(run, samples), lists=lists, background=background
    )
    return Known(evidence, np.isin(samples.users, world.members))


def _coins(run: Run, samples: Samples) -> np.ndarray:
    """The shadow coins of each user; somebody who is not part of the audit is in no shadow model."""
    coins = dict(zip(run.scored, run.shadow_coins(), strict=True))
    nobody = np.zeros(run.experiment.attacks.shadows, dtype=bool)
    return np.array([coins.get(user, nobody) for user in samples.users])


def _signals(run: Run, samples: Samples) -> dict[str, np.ndarray]:
    """What is known of each sample without asking any model."""
    place, share = run.catalogue.position, np.log((run.catalogue.counts + 1) / (run.catalogue.users + 2))
    longest = max((len(window) for window in samples.windows), default=run.writer.shortest)
    items = np.full((len(samples), longest), -1, dtype=np.int64)
    for row, window in zip(items, samples.windows, strict=True):
        row[-len(window) :] = [place[event.item] for event in window]
    there = items >= 0
    lengths = np.array([len(run.events.get(user, ())) for user in samples.users])
    windows = np.bincount(samples.user_index, weights=there.sum(axis=1), minlength=len(samples.users))
    length = np.log(np.maximum(np.where(lengths > 0, lengths, windows), 1))[samples.user_index]
    mean_share = np.where(there, share[items], 0).sum(axis=1) / there.sum(axis=1)
    characters = np.array([len(answer) for answer in samples.answers], dtype=float)
    return {
        "zlib_bytes": np.array([len(zlib.compress(answer.encode())) for answer in samples.answers], dtype=float),
        "answer_item": items[:, -1],
        "history_items": items[:, :-1],
        "covariates": np.column_stack([length, mean_share, share[items[:, -1]], characters]),
    }
