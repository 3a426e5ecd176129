"""A finished audit of invented users, as large as wanted, written without training anything.

    python benchmarks/large_audit.py HOME 100000

Scores are drawn, not measured; p-values, curves and intervals are made from them by the functions that a real audit uses.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from mia_core.attacks.catalogue import ATTACKS
from mia_core.data.interactions import Interactions
from mia_core.evaluate.calibration import mondrian_p_values, p_values, strata
from mia_core.evaluate.metrics import attack_metrics, best_threshold, roc_table
from mia_core.experiment import Experiment
from mia_core.keys import content_key
from mia_core.pipeline import summarise
from mia_core.report.results import Agreement, AuditResult, Claims, Quality, StageTime
from mia_core.storage.store import Store
from mia_core.types import Gate, Role

LEAD = "distillation"
HONEST = [name for name, attack in ATTACKS.items() if attack.status == "honest"]
NAMES = [LEAD, *[name for name in HONEST if name != LEAD][:11]]
SHARES = {
    Role.PUBLIC: 0.2,
    Role.KNOWN_MEMBER: 0.13,
    Role.KNOWN_HELD_OUT: 0.13,
    Role.AUDITED_MEMBER: 0.27,
    Role.AUDITED_HELD_OUT: 0.27,
}
MODELS = ("target", "base", "soft 0", "soft 1")
ITEMS = 2_000
WINDOWS, ITEMS_IN_A_WINDOW, TOKENS_OF_AN_ITEM = 2, 4, 4
MAPPED = 2_000


def write_large_audit(
    store: Store, users: int = 100_000, seed: int = 0, name: str = "", attacks: Sequence[str] = NAMES
) -> str:
    """Puts an audit of so many users into a store, with every table that a page may ask for; returns its key.

    Args:
        store: of the home that the app is started on.
        users: all of them, public ones included; at least 500.
        seed: draws everything.
        name: of the audit.
        attacks: the lead among them.
    """
    rng = np.random.default_rng(seed)
    name = name or f"{users:,} invented users"
    config = Experiment(name=name, seed=seed, attacks={"names": list(attacks), "lead": LEAD})  # type: ignore[arg-type]
    ids = np.array([f"user-{i:06d}" for i in rng.permutation(users)])
    roles = np.array(list(SHARES), dtype=object)[rng.choice(len(SHARES), users, p=list(SHARES.values()))]
    interactions = _interactions(rng, ids)
    data_key = interactions.key
    store.build(data_key, "interactions", interactions.write, keep=True)
    scored = roles != Role.PUBLIC
    lengths = interactions.frame.group_by("user").len()
    table = _users(rng, ids[scored], roles[scored], lengths, attacks)
    of_known, of_judged = (_truth(table, known) for known in (True, False))
    metrics, curves = [], []
    for attack in attacks:
        known, judged = (rows[f"score.{attack}"].to_numpy() for rows in (of_known, of_judged))
        members = [rows["role"].str.ends_with("_member").to_numpy() for rows in (of_known, of_judged)]
        threshold = best_threshold(known, members[0])
        metrics += attack_metrics(attack, judged, members[1], threshold, config.evaluation, seed)
        curve = roc_table(judged, members[1], config.evaluation.resamples, config.evaluation.confidence, seed)
        curves.append(curve.select(pl.lit(attack).alias("attack"), pl.all()))
    named = int(table["named"].sum())
    key = content_key(
        "large audit", 1, {"users": users, "seed": seed, "name": name, "attacks": list(attacks)}, [data_key]
    )
    result = AuditResult(
        key=key,
        name=name,
        created="2026-01-02T03:04:05+00:00",
        config=config.model_dump(mode="json"),
        data={**interactions.summary(), "key": data_key},
        roles={str(role): int((roles == role).sum()) for role in SHARES},
        lead=LEAD,
        attacks=[summarise(attack) for attack in attacks],
        metrics=metrics,
        quality=[Quality("target", 0.5, 0.4, 0.6, 0.3, 0.2, 0.4, 100)],
        agreement=[Agreement("soft 0", 0.2, 0.8)],
        stages=[StageTime("Draw the scores", 1.0, False)],
        notes=[
            "These users are invented and their scores drawn: this audit shows how fast the pages are, nothing else."
        ],
        device="none",
        versions={},
        gates=[Gate("null", True, 0.0, 0.5, len(of_judged), "Drawn to hold.", "")],
        claims=Claims(0.05, named, named, "", 0.2, 1.7, [], [], ""),
    )
    public = pl.DataFrame({"user": ids[~scored], "role": str(Role.PUBLIC), "windows": 0}).join(
        lengths.rename({"len": "history_length"}), on="user"
    )
    tables = {
        "users": pl.concat([table, public], how="diagonal_relaxed"),
        "features": _features(rng, table),
        "roc": pl.concat(curves),
        "list_bound": _list_bound(table),
        "tokens": _tokens(rng, table, interactions.items),
        "training": _training(of_judged),
        "map": _map(rng, table),
    }
    store.build(key, "audit", lambda folder: result.write(folder, tables), name=name, keep=True)
    return key


def _interactions(rng: np.random.Generator, ids: np.ndarray) -> Interactions:
    lengths = rng.integers(8, 40, len(ids))
    total = int(lengths.sum())
    items = np.array([f"item-{i:04d}" for i in range(ITEMS)])
    titles = [f"Film number {i} ({1950 + i % 70})" for i in range(ITEMS)]
    frame = pl.DataFrame(
        {
            "user": np.repeat(ids, lengths),
            "item": items[(ITEMS * rng.random(total) ** 2).astype(int)],
            "rating": rng.integers(1, 11, total) / 2,
            "timestamp": 1_400_000_000 + rng.integers(0, 200_000_000, total),
        }
    ).sort("user", "timestamp")
    return Interactions(frame, pl.DataFrame({"item": items, "title": titles}))


def _users(
    rng: np.random.Generator, ids: np.ndarray, roles: np.ndarray, lengths: pl.DataFrame, attacks: Sequence[str]
) -> pl.DataFrame:
    """Users who are not public; the strength of each attack differs, and all see one common signal."""
    n = len(ids)
    member = np.array([bool(role.member) for role in roles])
    table = pl.DataFrame({"user": ids, "role": [str(role) for role in roles], "windows": np.full(n, WINDOWS)})
    table = table.join(lengths.rename({"len": "history_length"}), on="user", how="left", maintain_order="left")
    popularity = rng.beta(2, 6, n)
    length = table["history_length"].to_numpy()
    # Users with a rare taste are remembered better.
    common = rng.normal(size=n) + member * (0.4 + 1.2 * (popularity < 0.2))
    calibrating = roles == Role.AUDITED_HELD_OUT
    stratum = strata(length, popularity, calibrating=calibrating)
    columns: dict[str, np.ndarray] = {"mean_popularity": popularity, "stratum": stratum}
    judged = calibrating | (roles == Role.AUDITED_MEMBER)
    place = np.full(n, -1)
    place[calibrating] = np.arange(calibrating.sum())
    for i, attack in enumerate(attacks):
        score = common + (0.4 + 0.3 * i) * rng.normal(size=n)
        p, p_stratum = np.full(n, np.nan), np.full(n, np.nan)
        p[judged] = p_values(score[judged], score[calibrating], place[judged], rng)
        p_stratum[judged] = mondrian_p_values(
            score[judged], score[calibrating], stratum[judged], stratum[calibrating], place[judged], rng
        )
        columns |= {f"score.{attack}": score, f"p.{attack}": p, f"p_stratum.{attack}": p_stratum}
    columns["named"] = np.nan_to_num(columns[f"p.{LEAD}"], nan=1.0) < 0.002
    return table.with_columns(**{name: pl.Series(values) for name, values in columns.items()}).with_columns(
        pl.col(pl.Float64).fill_nan(None)
    )


def _truth(table: pl.DataFrame, known: bool) -> pl.DataFrame:
    return table.filter(pl.col("role").str.starts_with("known" if known else "audited"))


def _features(rng: np.random.Generator, table: pl.DataFrame) -> pl.DataFrame:
    parts = []
    signal = table[f"score.{LEAD}"].to_numpy()
    taste = np.repeat([0.0, 1.5], [table.height // 2, table.height - table.height // 2])
    for model in MODELS:
        for feature in ("loss", "confidence", "entropy", "hidden"):
            sign = -1 if feature in ("loss", "entropy") else 1
            value = 2 + taste + rng.normal(size=table.height) + (sign * 0.5 * signal if model == "target" else 0)
            parts.append(
                table.select(
                    "user",
                    "role",
                    pl.lit(model).alias("model"),
                    pl.lit(feature).alias("feature"),
                    value=pl.Series(value),
                )
            )
    return pl.concat(parts)


def _tokens(rng: np.random.Generator, table: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """A few tokens for each user: WINDOWS answers of ITEMS_IN_A_WINDOW items."""
    ids = np.sort(table["user"].to_numpy())
    each = ITEMS_IN_A_WINDOW * TOKENS_OF_AN_ITEM
    n = len(ids) * WINDOWS * each
    item = rng.integers(0, items.height, n // TOKENS_OF_AN_ITEM).repeat(TOKENS_OF_AN_ITEM)
    base = -rng.exponential(3, n).astype(np.float32)
    words = np.array(["Film", " number", " of", " the year"])
    return pl.DataFrame(
        {
            "user": ids.repeat(WINDOWS * each),
            "window": np.tile(np.repeat(np.arange(WINDOWS), each), len(ids)),
            "place": np.tile(np.arange(each), len(ids) * WINDOWS),
            "text": np.tile(words, n // TOKENS_OF_AN_ITEM),
            "item": items["item"].to_numpy()[item],
            "target": np.minimum(0, base + rng.normal(0.3, 1, n)).astype(np.float32),
            "base": base,
            "reference": np.minimum(0, base + rng.normal(0, 0.5, n)).astype(np.float32),
        }
    )


def _training(judged: pl.DataFrame) -> pl.DataFrame:
    epochs = np.arange(6)
    return pl.DataFrame(
        {
            "epoch": epochs,
            "members": 4 - 0.4 * epochs,
            "held_out": 4 - 0.3 * epochs + 0.03 * epochs**2,
            "auc": 0.5 + 0.04 * epochs,
            "low": 0.47 + 0.04 * epochs,
            "high": 0.53 + 0.04 * epochs,
            "n_members": judged.filter(pl.col("role") == Role.AUDITED_MEMBER).height,
            "n_held_out": judged.filter(pl.col("role") == Role.AUDITED_HELD_OUT).height,
        }
    )


def _list_bound(table: pl.DataFrame) -> pl.DataFrame:
    listed = np.arange(1, table[f"p.{LEAD}"].count() + 1)
    return pl.DataFrame({"listed": listed, "wrong_at_most": np.minimum(listed, 3 + (listed * 0.4).astype(int))})


def _map(rng: np.random.Generator, table: pl.DataFrame) -> pl.DataFrame:
    drawn = _truth(table, known=False).sample(min(MAPPED, table.height // 3), seed=0).select("user", "role")
    kinds = [("outputs", "t-SNE"), ("outputs", "PCA"), ("correlation", "t-SNE"), ("hidden", "PCA")]
    return pl.concat(
        drawn.with_columns(
            drawn_from=pl.lit(kind),
            method=pl.lit(method),
            epoch=pl.lit(None, pl.Int64),
            x=pl.Series(rng.normal(size=drawn.height)),
            y=pl.Series(rng.normal(size=drawn.height)),
        )
        for kind, method in kinds
    )


if __name__ == "__main__":
    print(write_large_audit(Store(Path(sys.argv[1])), int(sys.argv[2])))
