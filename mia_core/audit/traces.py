"""What lies behind the scores, for people to look at: token by token, epoch by epoch, and on a map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from mia_core.attacks.evidence import Evidence
from mia_core.audit.stages import Run
from mia_core.data.prompts import Samples
from mia_core.evaluate.maps import principal_components, two_dimensional
from mia_core.evaluate.training import leak_at
from mia_core.observe.observations import Observations, observe
from mia_core.observe.output_vectors import output_vectors
from mia_core.observe.record import Record, read_record

TOKENS = {
    "user": pl.String,
    "window": pl.Int32,
    "place": pl.Int32,
    "text": pl.String,
    "item": pl.String,
    "target": pl.Float32,
    "base": pl.Float32,
    "reference": pl.Float32,
}


def token_table(run: Run, evidence: Evidence) -> pl.DataFrame:
    """One row per answer token of every scored user, sorted by user, window and place; see `read_table`."""
    target = evidence.views.get("target")
    if target is None or not len(target):
        return pl.DataFrame(schema=TOKENS)
    samples, lengths = run.samples, np.diff(target.offsets)
    of_token = np.repeat(np.arange(len(samples)), lengths)
    place = np.arange(len(of_token)) - np.repeat(target.offsets[:-1], lengths)
    tokens, which = np.unique(target.token, return_inverse=True)
    table = pl.DataFrame(
        {
            "user": pl.Series(samples.users).gather(samples.user_index[of_token]),
            "window": _number_within(samples.user_index)[of_token],
            "place": place,
            "text": pl.Series(run.target.load().texts(tokens.tolist()), dtype=pl.String).gather(which),
            "item": _items(run, samples, lengths),
            "target": target.log_probability,
            "base": _log_probability([evidence.views[name] for name in ("base",) if name in evidence.views], target),
            "reference": _log_probability(evidence.replicates("soft"), target),
        },
        schema_overrides=TOKENS,
    )
    return table.sort("user", "window", "place")


def _number_within(owner: np.ndarray) -> np.ndarray:
    """(n,) how many earlier samples have the same owner."""
    frame = pl.DataFrame({"owner": owner}).select(pl.int_range(pl.len()).over("owner").alias("number"))
    return frame["number"].to_numpy()


def _items(run: Run, samples: Samples, lengths: np.ndarray) -> pl.Series:
    """The item that each token belongs to: the window's last, or, where items are the tokens, each its own."""
    if run.writer.style.whole:
        told = [
            [event.item for event in window[len(window) - length :]]
            for window, length in zip(samples.windows, lengths, strict=True)
        ]
        return pl.Series([item for items in told for item in items], dtype=pl.String)
    last = np.repeat([window[-1].item for window in samples.windows], lengths)
    # The last token of an answer says that it is over.
    ends = np.cumsum(lengths) - 1
    items = pl.Series(last.tolist(), dtype=pl.String)
    return items.set(pl.Series(np.isin(np.arange(len(last)), ends)), None)


def _log_probability(views: Sequence[Observations], target: Observations) -> pl.Series:
    """The mean log-probability over some views; null where there is none, or where they read other tokens."""
    same = [view for view in views if np.array_equal(view.token, target.token)]
    if not same:
        return pl.Series([None] * len(target.token), dtype=pl.Float32)
    return pl.Series(np.mean([view.log_probability for view in same], axis=0), dtype=pl.Float32)


def training_table(run: Run) -> pl.DataFrame:
    """Loss and leakage after each epoch at which the target was asked; empty where its training was not watched."""
    record = _record(run)
    if record is None:
        return pl.DataFrame()
    member = run.is_watched_member(record.users)
    confidence = run.experiment.evaluation.confidence
    rows = [
        leak_at(epoch, said, member, confidence)
        for epoch, said in zip(record.epochs, record.log_probability, strict=True)
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def _record(run: Run) -> Record | None:
    folder = None if run.served or run.experiment.kind == "recommender" else run.target.folder
    return None if folder is None else read_record(folder)


def map_table(run: Run) -> pl.DataFrame:
    """Where some audited users lie by what the target says of them; see `read_table`."""
    latest = run.windows(run.on_the_map[: run.experiment.evaluation.map_users], 1)
    users = [latest.users[i] for i in latest.user_index]
    asked = run.target.told(latest, latest)
    model = run.target.load()
    outputs, correlation = output_vectors(model, asked.prompts, asked.answers, seed=run.experiment.seed)
    inner = observe(model, asked.prompts, asked.answers).hidden
    drawn = {"outputs": outputs, "correlation": correlation, "hidden": inner[:, -1]}
    parts = []
    for name, vectors in drawn.items():
        parts.append(_places(run, users, name, "t-SNE", None, two_dimensional(vectors, run.experiment.seed)))
        parts.append(_places(run, users, name, "PCA", None, principal_components(vectors, [vectors])[0]))
    record = _record(run)
    # What a defence shows the world is not what the record saw.
    if record is not None and not any(one.where == "serving" for one in run.defenses):
        # One plane for all epochs, that of the last: only so can a way through them be seen.
        ways = principal_components(record.hidden[-1], list(record.hidden))
        for epoch, places in zip(record.epochs, ways, strict=True):
            parts.append(_places(run, record.users, "hidden", "PCA", epoch, places))
    return pl.concat(parts)


def _places(
    run: Run, users: Sequence[str], drawn_from: str, method: str, epoch: int | None, places: np.ndarray
) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user": list(users),
            "role": [str(run.split.roles[user]) for user in users],
            "drawn_from": drawn_from,
            "method": method,
            "epoch": pl.Series([epoch] * len(users), dtype=pl.Int32),
            "x": places[:, 0],
            "y": places[:, 1],
        }
    )
