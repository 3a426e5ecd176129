"""What a finished audit says of one of its users."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mia_core.errors import NotFound
from mia_core.evaluate.discoveries import Posterior, Ratio, likelihood_ratio, posterior
from mia_core.evaluate.metrics import best_threshold
from mia_core.report.results import (
    AttackEvidence,
    AuditResult,
    Flag,
    LookupResult,
    read_result,
    read_table,
)
from mia_core.types import Role

if TYPE_CHECKING:
    from mia_core.store import Entry, Store

SHORTEST_PREFIX = 4


def find_audit(store: Store, text: str) -> Entry:
    """The audit that a key, the beginning of a key, a name or ``latest`` means.

    A key or a beginning of one comes before a name; of several audits of one name the newest is meant.

    Raises:
        NotFound: no audit fits, or the beginning fits several.
    """
    audits = store.entries("audit")
    if not audits:
        raise NotFound("audit: there is no finished audit yet; run one with 'audit CONFIG.toml' or 'demo'")
    if text == "latest":
        return audits[0]
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
        f"audit {text!r}: there is none; give a key, at least its first {SHORTEST_PREFIX} characters, the name of an "
        "audit, or 'latest'. 'list' shows them all"
    )


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
    if folder is None or not (folder / "result.json").is_file():
        raise NotFound(f"audit {audit_key[:80]!r}: there is none in this store")
    result, users = read_result(folder), read_table(folder, "users")
    attack = attack or result.lead
    summary = next((item for item in result.attacks if item.name == attack), None)
    if summary is None:
        names = ", ".join(item.name for item in result.attacks)
        raise NotFound(f"attack {attack!r} is not part of this audit; choose one of {names}")
    rows = users.filter(pl.col("user") == user)
    if rows.is_empty():
        raise NotFound(_unknown_user(user, users["user"]))
    row = rows.row(0, named=True)
    score, p_value = row.get(f"score.{attack}"), row.get(f"p.{attack}")
    role = Role(row["role"])
    members, held_out = _comparison(users, attack, user, result)
    return LookupResult(
        subject=user,
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
        reason=_reason(role, score, p_value, summary.skipped, result),
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
    )


def weigh(flag: Flag, prior: float, confidence: float) -> tuple[Ratio, Posterior]:
    """(how many times likelier the attack's verdict is for a member, the reader's prior after it).

    Args:
        flag: of the person.
        prior: how likely the reader takes membership to be before the audit, from 0 to 1.
        confidence: of the limits, which count the audited users alone, not the choice of the prior.
    """
    hits, alarms = (flag.hits, flag.members), (flag.alarms, flag.held_out)
    if not flag.flagged:
        hits, alarms = (flag.members - flag.hits, flag.members), (flag.held_out - flag.alarms, flag.held_out)
    ratio = likelihood_ratio(hits, alarms, confidence)
    return ratio, posterior(prior, ratio)


def _flag(users: pl.DataFrame, attack: str, user: str, score: float, result: AuditResult) -> Flag | None:
    """The verdict at the threshold of the report, and how often it falls on the other audited users."""
    if result.config.get("target", {}).get("source", "fine-tune") != "fine-tune":
        # The only members anybody knows are those whom the threshold was fixed on.
        return None
    known, others = (
        users.filter(pl.col("role").is_in(roles), pl.col("user") != user, pl.col(f"score.{attack}").is_not_null())
        for roles in ([Role.KNOWN_MEMBER, Role.KNOWN_HELD_OUT], [Role.AUDITED_MEMBER, Role.AUDITED_HELD_OUT])
    )
    threshold = best_threshold(known[f"score.{attack}"].to_numpy(), (known["role"] == Role.KNOWN_MEMBER).to_numpy())
    if threshold is None or others.is_empty():
        return None
    above = (others[f"score.{attack}"] >= threshold).to_numpy()
    member = (others["role"] == Role.AUDITED_MEMBER).to_numpy()
    counts = (np.sum(above & member), np.sum(member), np.sum(above & ~member), np.sum(~member))
    return Flag(float(threshold), score >= threshold, *(int(count) for count in counts))


def _comparison(users: pl.DataFrame, attack: str, user: str, result: AuditResult) -> tuple[list[float], list[float]]:
    """Scores of the other members and of the other calibration users."""
    if f"score.{attack}" not in users.columns:
        return [], []
    # For a target of your own nobody's membership is known but that of the listed users.
    own = result.config.get("target", {}).get("source", "fine-tune") != "fine-tune"
    member = Role.KNOWN_MEMBER if own else Role.AUDITED_MEMBER
    others = users.filter(pl.col("user") != user, pl.col(f"score.{attack}").is_not_null())

    def scores(role: Role) -> list[float]:
        return others.filter(pl.col("role") == role)[f"score.{attack}"].to_list()

    return scores(member), scores(Role.AUDITED_HELD_OUT)


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


def _unknown_user(user: str, ids: pl.Series) -> str:
    """Says how ids look without showing anybody's."""
    lengths = sorted({len(other) for other in ids})
    digits = "digits only" if ids.str.contains(r"^[0-9]+$").all() else "any characters"
    span = f"{lengths[0]}" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"
    return (
        f"user {user[:80]!r} is not part of this audit. Ids are matched exactly: case, spaces and leading zeros count. "
        f"In this audit they are {span} characters long, {digits}. Users with too few interactions are left out of an "
        "audit; a pasted history can be looked up without an id"
    )
