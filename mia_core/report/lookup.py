"""What a finished audit says of one of its users."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from mia_core import parquet
from mia_core.errors import NotFound
from mia_core.evaluate.discoveries import Posterior, Ratio, likelihood_ratio, posterior
from mia_core.evaluate.metrics import best_threshold
from mia_core.report.finished import names_in
from mia_core.report.results import (
    AttackEvidence,
    AuditResult,
    Flag,
    LookupResult,
    read_result,
    read_table,
)
from mia_core.seeds import generator
from mia_core.types import Role, Unit

if TYPE_CHECKING:
    from mia_core.storage.store import Entry, Store

SHORTEST_PREFIX = 4
LOST = (
    "{name!r} was damaged on the disk and set aside. Run it again: its intermediates are kept, so that only what was damaged is "
    "computed anew"
)


def find_audit(store: Store, text: str) -> Entry:
    """The audit that a key, the beginning of a key, a name or ``latest`` means.

    A key or a beginning of one comes before a name; of several audits of one name the newest is meant. Points of studies
    are found, too; the latest is one of them only where there is no other audit.

    Raises:
        NotFound: no audit fits, or the beginning fits several.
    """
    return _whole(store, _named(store, text))


def told_of_loss(store: Store, text: str) -> str:
    """What to say of a result that was damaged on the disk, where its key, the beginning of one or its name asks for one."""
    for loss in store.losses():
        begun = len(text) >= SHORTEST_PREFIX and loss.key.startswith(text.lower())
        if begun or loss.name.casefold() == text.casefold():
            return LOST.format(name=loss.name)
    return ""


def _whole(store: Store, entry: Entry) -> Entry:
    """The same entry, once all of its files are known to be as they were written."""
    if store.find(entry.key) is None:
        raise NotFound(LOST.format(name=entry.name))
    return entry


def _named(store: Store, text: str) -> Entry:
    audits = store.entries("audit", "point")
    if not audits:
        raise NotFound(
            told_of_loss(store, text)
            or "audit: there is no finished audit yet; run one with 'audit CONFIG.toml' or 'demo'"
        )
    if text == "latest":
        return next((entry for entry in audits if entry.kind == "audit"), audits[0])
    started = [entry for entry in audits if entry.key.startswith(text.lower())] if len(text) >= SHORTEST_PREFIX else []
    if len(started) == 1:
        return started[0]
    named = [entry for entry in audits if entry.name.casefold() == text.casefold()]
    if named:
        return named[0]
    if started:
        keys = ", ".join(entry.key[:12] for entry in started)
        raise NotFound(f"audit {text!r}: {len(started)} keys begin like this ({keys}); give more of the key")
    raise NotFound(
        told_of_loss(store, text)
        or f"audit {text!r}: there is none; give a key, at least its first {SHORTEST_PREFIX} characters, the name of an "
        "audit, or 'latest'. 'list --all' shows them all"
    )


def find_finished(store: Store, text: str) -> Entry:
    """The audit, comparison of defences or check of forgetting that a key, the beginning of one, or a name means.

    Raises:
        NotFound: none fits, or the beginning fits several.
    """
    others = store.entries("defenses", "forgetting")
    found = [entry for entry in others if len(text) >= SHORTEST_PREFIX and entry.key.startswith(text.lower())]
    found = found or [entry for entry in others if entry.name.casefold() == text.casefold()]
    try:
        return find_audit(store, text)
    except NotFound:
        if not found:
            raise
        return _whole(store, found[0])


def lookup_user(store: Store, audit_key: str, user: str, attack: str | None = None) -> LookupResult:
    """The evidence about one user of a finished audit.

    Args:
        store: where the audit lies.
        audit_key: its full key.
        user: the id, exactly as in the data.
        attack: whose score; by default the one that leads the report.
    Returns:
        score and p-value for audited and judged users; only a score, from attacks that were not fitted on them, for known
        users; neither for public users. `reason` says why something is missing.
    Raises:
        NotFound: there is no such audit, user or attack.
    """
    folder = store.find(audit_key)
    if folder is None and (lost := told_of_loss(store, audit_key)):
        raise NotFound(lost)
    if folder is None or not (folder / "result.json").is_file():
        raise NotFound(f"audit {audit_key[:80]!r}: there is none in this store")
    result = read_result(folder)
    attack = attack or result.lead
    summary = next((item for item in result.attacks if item.name == attack), None)
    if summary is None:
        names = ", ".join(item.name for item in result.attacks)
        raise NotFound(f"attack {attack!r} is not part of this audit; choose one of {names}")
    known_as = names_in(store, result, user)
    rows = parquet.scan(folder / "users.parquet").filter(pl.col("user").is_in(known_as)).collect()
    if rows.is_empty():
        raise NotFound(_unknown_user(user, read_table(folder, "users", ["user"])["user"], result.unit))
    row = rows.row(0, named=True)
    asked, user = user, row["user"]
    # Of the others only what the attack says is needed; a table may hold scores of dozens of attacks.
    users = read_table(folder, "users", [name for name in ("user", "role", f"score.{attack}") if name in rows.columns])
    score, p_value = row.get(f"score.{attack}"), row.get(f"p.{attack}")
    role = Role(row["role"])
    members, held_out = _comparison(users, attack, user, result)
    return LookupResult(
        subject=asked,
        role=role,
        attack=attack,
        windows=row["windows"],
        matched=row["history_length"],
        unmatched=[],
        score=score,
        p_value=p_value,
        calibration_users=len(held_out),
        share_below=None if score is None or not held_out else sum(s < score for s in held_out) / len(held_out),
        member_scores=members,
        held_out_scores=held_out,
        reason=result.unit.say(_reason(role, score, p_value, summary.skipped, result)),
        stratum_p_value=row.get(f"p_stratum.{attack}"),
        flag=None if role.known or score is None else _flag(users, attack, user, score, result),
        evidence=[
            AttackEvidence(
                item.name,
                item.title,
                item.group,
                item.status,
                *(row.get(f"{column}.{item.name}") for column in ("score", "p", "p_stratum")),
            )
            for item in result.attacks
            if not item.skipped
        ],
        share_used=None if row.get("share_used") is None else (row["share_used"], row["share_low"], row["share_high"]),
    )


def weigh(flag: Flag, prior: float, confidence: float) -> tuple[Ratio, Posterior]:
    """(how many times likelier the attack's verdict is for a member, the reader's prior after it).

    Args:
        flag: of the person.
        prior: how likely the reader takes membership to be before the audit, from 0 to 1.
        confidence: of the limits, which cover whom the flag counted, not the choice of the prior.
    """
    hits, alarms = (flag.hits, flag.members), (flag.alarms, flag.held_out)
    if not flag.flagged:
        hits, alarms = (flag.members - flag.hits, flag.members), (flag.held_out - flag.alarms, flag.held_out)
    ratio = likelihood_ratio(hits, alarms, confidence)
    return ratio, posterior(prior, ratio)


def flag_at_every_offset(score: float, members: np.ndarray, held_out: np.ndarray, seed: int) -> Flag | None:
    """The verdict about a pasted history: half of those who were scored like it fix the threshold, the others count.

    Args:
        members: their scores, and
        held_out: those of the others; none of them missing.
    """
    halves = [_halves(scores, seed) for scores in (members, held_out)]
    fixing, counting = zip(*halves, strict=True)
    return _verdict(score, fixing, counting, "offsets")


def _flag(users: pl.DataFrame, attack: str, user: str, score: float, result: AuditResult) -> Flag | None:
    """The verdict about one user, and how often it falls on others."""

    def scores(role: Role) -> np.ndarray:
        return np.array(_scores_of_others(users, attack, user, role))

    calibrating, fixing = scores(Role.AUDITED_HELD_OUT), scores(Role.KNOWN_HELD_OUT)
    if not result.brought:
        counting = scores(Role.AUDITED_MEMBER), calibrating
        return _verdict(score, (scores(Role.KNOWN_MEMBER), fixing), counting, "audited")
    # The only members anybody knows are the known ones: some of them fix the threshold, the others count.
    some, others = _halves(scores(Role.KNOWN_MEMBER), int(result.config["seed"]))
    return _verdict(score, (some, fixing), (others, calibrating), "known")


def _verdict(
    score: float,
    fixing: Sequence[np.ndarray],
    counting: Sequence[np.ndarray],
    counted: Literal["audited", "known", "offsets"],
) -> Flag | None:
    """Both groups are (scores of members, scores of held-out users); None where one of them is empty."""
    threshold = best_threshold(np.concatenate(fixing), np.repeat([True, False], [len(group) for group in fixing]))
    members, held_out = counting
    if threshold is None or not len(members) or not len(held_out) or math.isnan(score):
        return None
    hits, alarms = (int(np.sum(group >= threshold)) for group in counting)
    return Flag(threshold, score >= threshold, hits, len(members), alarms, len(held_out), counted)


def _halves(scores: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    mixed = scores[generator(seed, "halves").permutation(len(scores))]
    return mixed[: len(mixed) // 2], mixed[len(mixed) // 2 :]


def _comparison(users: pl.DataFrame, attack: str, user: str, result: AuditResult) -> tuple[list[float], list[float]]:
    """Scores of the other members and of the other calibration users."""
    if f"score.{attack}" not in users.columns:
        return [], []
    # For a target of your own nobody's membership is known but that of the listed users.
    member = Role.KNOWN_MEMBER if result.brought else Role.AUDITED_MEMBER
    return (
        _scores_of_others(users, attack, user, member),
        _scores_of_others(users, attack, user, Role.AUDITED_HELD_OUT),
    )


def _scores_of_others(users: pl.DataFrame, attack: str, user: str, role: Role) -> list[float]:
    column = f"score.{attack}"
    others = users.filter(pl.col("user") != user, pl.col("role") == role, pl.col(column).is_not_null())
    scores: list[float] = others[column].to_list()
    return scores


def _reason(role: Role, score: float | None, p_value: float | None, skipped: str, result: AuditResult) -> str:
    if role is Role.PUBLIC:
        return (
            "This user's data were used to build the audit, as third-party data that anybody may count, so there is "
            "neither a score nor a p-value for this user."
        )
    if skipped:
        return f"The attack did not run: it {skipped}."
    if score is None:
        needed = result.config.get("prompt", {}).get("history", 0) + 1
        return f"This user cannot be scored: the history does not fill one window of {needed} interactions."
    if role.known:
        return (
            "This user was used to build the audit: the attacks were fitted on users whose membership is known, and this "
            "is one of them. The score comes from attacks that were fitted without this user; there is no p-value."
        )
    if p_value is None:
        return "There is no p-value: no held-out user could be scored to compare this user with."
    return ""


def _unknown_user(user: str, ids: pl.Series, unit: Unit) -> str:
    """Says how ids look without showing anybody's."""
    lengths = ids.str.len_chars().unique().sort().to_list()
    digits = "digits only" if ids.str.contains(r"^[0-9]+$").all() else "any characters"
    span = f"{lengths[0]}" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"
    return (
        f"{unit.one} {user[:80]!r} is not part of this audit. Ids are matched exactly: case, spaces and leading zeros count. "
        f"In this audit they are {span} characters long, {digits}. {unit.many.capitalize()} with too few interactions are left "
        "out of an audit; a pasted history can be looked up without an id"
    )
