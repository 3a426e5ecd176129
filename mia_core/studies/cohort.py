"""A list of users taken together: was this collection used, and how much of it?

Single users may be too alike to tell; a list adds up what little each of them shows. Everything is read from the
tables of a finished audit: no model is asked again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from mia_core.attacks.contract import HONEST
from mia_core.attacks.sets import dataset_inference, share_used
from mia_core.errors import DataError, NotFound
from mia_core.evaluate.metrics import best_threshold
from mia_core.report.finished import names_in
from mia_core.report.results import AuditResult, CohortResult, read_result, read_table
from mia_core.report.wording import cohort_limits, explain_cohort, use_of
from mia_core.seeds import derive_seed
from mia_core.storage.store import Store
from mia_core.types import Role, Unit

FEWEST_LISTED = 5
"""Fewer users are looked up one by one."""
FEWEST_CONTROLS = 10
MOST_MISSING = 0.05
"""An attack that could not score a larger share of the users is left out."""
COVARIATES = {
    "history_length": "length of history",
    "mean_popularity": "popularity of their items",
    "windows": "windows",
}


def judge_cohort(store: Store, audit_key: str, ids: Sequence[str]) -> CohortResult:
    """What a finished audit says of a list of its users.

    Args:
        store: where the audit lies.
        audit_key: its full key.
        ids: exactly as in the data; repeated ones count once.
    Raises:
        NotFound: there is no such audit.
        DataError: the list is too short, or holds users who are unknown here or helped to build the audit.
    """
    folder = store.find(audit_key)
    if folder is None or not (folder / "result.json").is_file():
        raise NotFound(f"audit {audit_key[:80]!r}: there is none in this store")
    result, users = read_result(folder), read_table(folder, "users")
    there = set(users["user"]) if result.pseudonyms_of else set()
    # Unknown ids stay as they were given: a message names them.
    listed = list(
        dict.fromkeys(next((name for name in names_in(store, result, one) if name in there), one) for one in ids)
    )
    _check(listed, users, result.unit)
    rows = {
        "list": users.filter(pl.col("user").is_in(listed)),
        "control": users.filter(pl.col("role") == Role.AUDITED_HELD_OUT, ~pl.col("user").is_in(listed)),
        "known": users.filter(pl.col("role").is_in([Role.KNOWN_MEMBER, Role.KNOWN_HELD_OUT])),
    }
    if rows["control"].height < FEWEST_CONTROLS:
        raise DataError(
            f"the list leaves {rows['control'].height} audited held-out {result.unit.many} to compare it with; {FEWEST_CONTROLS} "
            "are needed: give a shorter list"
        )
    attacks = _attacks(result, rows)
    member = (rows["known"]["role"] == Role.KNOWN_MEMBER).to_numpy()
    features = {name: _scores(part, attacks) for name, part in rows.items()}
    p_value = effect = math.nan
    scored = control = 0
    if attacks and 0 < member.sum() < len(member):
        test = dataset_inference(features["list"], features["control"], features["known"], member)
        p_value, effect, scored, control = test.p_value, test.effect, test.users, test.control_users
    confidence = float(result.config.get("evaluation", {}).get("confidence", 0.95))
    recorded = None
    if not (rows["list"]["role"] == Role.JUDGED).any():
        null = result.config.get("target", {}).get("world") == "null"
        recorded = 0 if null else int((rows["list"]["role"] == Role.AUDITED_MEMBER).sum())
    return CohortResult(
        listed=len(listed),
        repeated=len(ids) - len(listed),
        scored=scored,
        control_users=control,
        attacks=attacks,
        p_value=None if math.isnan(p_value) else p_value,
        effect=None if math.isnan(effect) else effect,
        **_share(result, rows, member, confidence),
        recorded_members=recorded,
        differences=_differences(rows["list"], rows["control"]),
        confidence=confidence,
    )


def cohort_document(found: CohortResult, result: AuditResult) -> dict[str, Any]:
    """The answer as plain JSON data; it holds no ids."""
    return {
        "audit": result.key,
        "valid": result.valid,
        "membership": use_of(result).meaning,
        **dataclasses.asdict(found),
        "sentences": explain_cohort(found, result),
        "limits": cohort_limits(found, result),
    }


def _check(listed: list[str], users: pl.DataFrame, unit: Unit) -> None:
    roles = dict(users.select("user", "role").iter_rows())
    unknown = [user for user in listed if user not in roles]
    if unknown:
        raise DataError(
            f"{len(unknown):,} of {len(listed):,} ids are not part of this audit, the first is {unknown[0][:80]!r}. Ids are "
            f"matched exactly: case, spaces and leading zeros count; {unit.many} with too few interactions are left out of an "
            "audit"
        )
    used = [user for user in listed if Role(roles[user]).known]
    public = [user for user in listed if roles[user] == Role.PUBLIC]
    if used or public:
        told = (
            f"{len(used) + len(public):,} of {len(listed):,} listed users helped to build this audit ({len(used):,} known users, "
            f"whom the attacks learned from, {len(public):,} public users, whom anybody may count). Nothing fair can be said of "
            "them: list audited or judged users only"
        )
        raise DataError(unit.say(told))
    if len(listed) < FEWEST_LISTED:
        raise DataError(
            f"the list holds {len(listed)} {unit.many}; give at least {FEWEST_LISTED}, or look single {unit.many} up one by one"
        )


def _attacks(result: AuditResult, rows: dict[str, pl.DataFrame]) -> list[str]:
    """Honest attacks that scored nearly everybody, and not all alike."""
    everybody = pl.concat(rows.values()).filter(pl.col("windows") > 0)
    found = []
    for attack in result.attacks:
        column = f"score.{attack.name}"
        if attack.status != HONEST or column not in everybody.columns:
            continue
        if everybody[column].null_count() <= MOST_MISSING * everybody.height and rows["known"][column].n_unique() > 1:
            found.append(attack.name)
    return found


def _scores(users: pl.DataFrame, attacks: list[str]) -> np.ndarray:
    """(n, n_attacks), NaN where an attack could not score a user."""
    scores: np.ndarray = users.select(pl.col(f"score.{name}").fill_null(math.nan) for name in attacks).to_numpy()
    return scores


def _share(result: AuditResult, rows: dict[str, pl.DataFrame], member: np.ndarray, confidence: float) -> dict[str, Any]:
    """The share of the list, and of the control users, that the lead attack takes for members, corrected."""
    nothing: dict[str, Any] = {
        "counted": 0,
        "share": None,
        "share_low": 0.0,
        "share_high": 1.0,
        "control_share": None,
        "true_positive_rate": None,
        "false_positive_rate": None,
    }
    if f"score.{result.lead}" not in rows["list"].columns:
        return nothing
    suspect, control, known = (_scores(rows[name], [result.lead])[:, 0] for name in ("list", "control", "known"))
    threshold = best_threshold(known, member)
    if threshold is None:
        return nothing
    found = share_used(
        np.concatenate([suspect, control]),
        np.repeat([0, 1], [len(suspect), len(control)]),
        known,
        np.arange(len(known)),
        member,
        # The report's verdict is "at or above", this one's "above".
        np.nextafter(threshold, -math.inf),
        collections=2,
        confidence=confidence,
        seed=derive_seed(int(result.config.get("seed", 0)), "share used"),
    )
    share, control_share = (None if math.isnan(value) else float(value) for value in found.share)
    return {
        "counted": int((~np.isnan(suspect)).sum()),
        "share": share,
        "share_low": float(found.lower[0]),
        "share_high": float(found.upper[0]),
        "control_share": control_share,
        "true_positive_rate": found.tpr,
        "false_positive_rate": found.fpr,
    }


def _differences(listed: pl.DataFrame, control: pl.DataFrame) -> list[str]:
    """Covariates in which the list differs from the control users; the chance of naming any by accident is one in twenty."""
    found = []
    for column, words in COVARIATES.items():
        ours, theirs = listed[column].drop_nulls().to_numpy(), control[column].drop_nulls().to_numpy()
        if len(ours) and len(theirs) and stats.mannwhitneyu(ours, theirs).pvalue * len(COVARIATES) < 0.05:
            found.append(words)
    return found
