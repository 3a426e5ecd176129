"""From models to evidence: every view, signal and list that the chosen attacks need, asked once and kept."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np

from mia_core import estimate
from mia_core.attacks.evidence import Background, Evidence
from mia_core.data.lists import ServedLists
from mia_core.data.prompts import Samples
from mia_core.observe.observations import Observations
from mia_core.observe.views import LISTS
from mia_core.questions import MEASURED, Questions
from mia_core.stages import Run


def possible(run: Run, need: str) -> str:
    """Why a need cannot be met in this audit, by its config or by its data; empty where it can."""
    told = estimate.impossible(run.experiment, need)
    if told:
        return told
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
    asked = "no_history" if need == "lists/no_history" else "history"
    return "" if asked in served.lists else f"needs lists with question = {asked!r}, which target.lists does not hold"


def train(run: Run, needs: Sequence[str]) -> None:
    """Trains, or finds in the store, every model that the needs ask about."""
    if run.served is None:
        _ = run.target
    if estimate.STUDENTS & {need.partition("/")[0] for need in needs}:
        _ = run.student_start
    for need in needs:
        if need not in (*LISTS, *MEASURED):
            for view in estimate.views(run.experiment, need.partition("/")[0]):
                run.view_model(view)


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
    for need in needs:
        with run.stage(estimate.observe_stage(need)) if announce else nullcontext():
            if need in LISTS:
                lists[need] = questions.recommended(need, samples)
            elif need in MEASURED:
                signals[need] = questions.measured(need, samples)
            else:
                found = {view: questions.observe(view, samples) for view in estimate.views(run.experiment, need)}
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
        background=background(run),
    )


def _coins(run: Run, samples: Samples) -> np.ndarray:
    """The shadow coins of each user; somebody who is not part of the audit is in no shadow model."""
    coins = dict(zip(run.scored, run.shadow_coins(), strict=True))
    nobody = np.zeros(run.experiment.attacks.shadows, dtype=bool)
    return np.array([coins.get(user, nobody) for user in samples.users])


def _signals(run: Run, samples: Samples) -> dict[str, np.ndarray]:
    """What is known of each sample without asking any model."""
    place, share = run.catalogue.position, np.log((run.catalogue.counts + 1) / (run.catalogue.users + 2))
    items = np.array([[place[event.item] for event in window] for window in samples.windows], dtype=np.int64)
    items = items.reshape(len(samples), run.writer.window)
    lengths = np.array([len(run.events.get(user, ())) for user in samples.users])
    windows = samples.counts() * run.writer.window
    length = np.log(np.maximum(np.where(lengths > 0, lengths, windows), 1))[samples.user_index]
    characters = np.array([len(answer) for answer in samples.answers], dtype=float)
    return {
        "zlib_bytes": np.array([len(zlib.compress(answer.encode())) for answer in samples.answers], dtype=float),
        "answer_item": items[:, -1],
        "history_items": items[:, :-1],
        "covariates": np.column_stack([length, share[items].mean(axis=1), share[items[:, -1]], characters]),
    }


def background(run: Run) -> Background:
    """What public users alone say about tokens and items."""
    if run.served is not None:
        # Without the model there are no tokens to count.
        return Background(np.ones(1), run.catalogue.share, run.catalogue.vectors(), np.zeros((1, 1), np.float32))
    model = (run.base or run.target).load()
    vectors = model.plain_network.get_input_embeddings().weight.detach().float().cpu().numpy()
    counts = np.ones(len(vectors))
    samples = run.windows(run.public)
    for encoded in model.encode(samples.prompts, samples.answers):
        np.add.at(counts, list(encoded.answer), 1)
    return Background(
        token_share=counts / counts.sum(),
        item_share=run.catalogue.share,
        item_vectors=run.catalogue.vectors(),
        token_vectors=vectors,
    )
