"""The answer to one person as a letter, in four languages: sealed as a PDF, and as text that an officer may change.

The text is plain, since every mail program, ticket system and letterhead takes it as it is.
"""

from __future__ import annotations

import math
import textwrap
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from importlib import resources
from typing import Any

import polars as pl

from mia_core.attacks.contract import NO_EVIDENCE
from mia_core.errors import NotFound
from mia_core.report.document import inert
from mia_core.report.finished import names_in
from mia_core.report.lookup import lookup_user
from mia_core.report.results import AuditResult, LookupResult, read_result, read_table
from mia_core.report.wording import CHANCE_LEVEL, LEVELS, SERVED, SHOWN, TRAINED, use_of
from mia_core.storage.seal import SealingKey
from mia_core.storage.store import Store
from mia_core.types import Role

LANGUAGES = {"en": "English", "de": "Deutsch", "fr": "Français", "es": "Español"}
"""By the code that a document states as its language."""
DATES = {
    "en": "{day} {month} {year}",
    "de": "{day}. {month} {year}",
    "fr": "{day} {month} {year}",
    "es": "{day} de {month} de {year}",
}
WIDTH = 78
"""Letters in a line of the text."""


@dataclass(frozen=True)
class Office:
    """What the officer fills in; what is left empty shows as a blank to be filled."""

    organisation: str = ""
    contact: str = ""
    reference: str = ""


@dataclass(frozen=True)
class Letter:
    """A letter in one language. Everything is plain text."""

    language: str
    organisation: str
    reference: str
    day: str
    subject: str
    salutation: str
    parts: tuple[tuple[str, tuple[str, ...]], ...]
    """(heading, paragraphs)."""
    closing: str
    key: str
    """Of the audit."""
    page: str
    """The word for a page."""
    written: date


def find_subject(store: Store, audit_key: str, user: str) -> LookupResult | None:
    """The evidence about a user, or None where this id is not in the audit's data: that is an answer, too.

    Raises:
        NotFound: there is no such audit.
    """
    folder = store.find(audit_key)
    if folder is None or not (folder / "users.parquet").is_file():
        raise NotFound(f"audit {audit_key[:80]!r}: there is none in this store")
    known_as = names_in(store, read_result(folder), user)
    if read_table(folder, "users", ["user"]).filter(pl.col("user").is_in(known_as)).is_empty():
        return None
    return lookup_user(store, audit_key, user)


def compose_letter(
    found: LookupResult | None,
    result: AuditResult,
    language: str,
    office: Office,
    *,
    subject: str = "",
    day: date | None = None,
) -> Letter:
    """The letter about what a lookup found.

    Args:
        found: the evidence, by the attack that leads the audit; None: the id is not in the data.
        subject: that id.
        day: of the letter; by default today.
    """
    spoken, words = _spoken(language), _spoken(language)["words"]
    written = day or datetime.now(UTC).date()
    office = Office(
        *(
            inert(given) or words[name]
            for name, given in (
                ("organisation", office.organisation),
                ("contact", office.contact),
                ("reference", office.reference),
            )
        )
    )
    values = {
        "audit": inert(result.name, 80),
        "audit_date": _day(date.fromisoformat(result.created[:10]), language),
        "key": result.key[:12],
        "subject": inert(subject or (found.subject if found else ""), 80),
        "contact": office.contact,
        "reference": office.reference,
        "others": words[result.unit.many],
        **_figures(found, result, spoken),
    }
    asked = {TRAINED.meaning: "asked_trained", SHOWN.meaning: "asked_shown", SERVED.meaning: "asked_served"}
    meanings = {result.unit.say(meaning): name for meaning, name in asked.items()}
    pasted = found is not None and not found.role
    chosen = {
        "asked": [meanings[use_of(result).meaning]],
        "examined": [
            "examined_history" if pasted else "examined_id",
            *(["session"] if result.unit.one == "session" else []),
        ],
        "found": _findings(found, result),
        "limits": _limits(found, result),
        "data": ["data_absent" if found is None else "data_history" if pasted else "data_id"],
        "ask": ["ask"],
    }
    return Letter(
        language=language,
        organisation=office.organisation,
        reference=words["reference_line"].format(reference=office.reference),
        day=_day(written, language),
        subject=words["subject"],
        salutation=words["salutation"],
        parts=tuple(
            (words[f"{part}_heading"], tuple(words[name].format_map(values) for name in names))
            for part, names in chosen.items()
            if names
        ),
        closing=words["closing"],
        key=result.key,
        page=words["page"],
        written=written,
    )


def as_text(letter: Letter) -> str:
    """The letter as plain text, to be changed and sent."""
    told = [letter.organisation, letter.reference, letter.day, _filled(letter.subject.upper()), letter.salutation]
    for heading, paragraphs in letter.parts:
        told.append(f"{heading}\n{'-' * len(heading)}")
        told += [_filled(paragraph) for paragraph in paragraphs]
    return "\n\n".join([*told, _filled(letter.closing), letter.organisation]) + "\n"


def _filled(paragraph: str) -> str:
    return textwrap.fill(paragraph, WIDTH, break_on_hyphens=False)


def letter_pdf(letter: Letter, key: SealingKey, now: datetime | None = None) -> bytes:
    """The letter as a tagged and sealed PDF."""
    from mia_core.report.pdf import typeset

    data: dict[str, Any] = {name: getattr(letter, name) for name in letter.__dataclass_fields__ if name != "written"}
    data["date"] = {"year": letter.written.year, "month": letter.written.month, "day": letter.written.day}
    return key.seal(typeset("letter.typ", data), now)


def _findings(found: LookupResult | None, result: AuditResult) -> list[str]:
    """What was found, by the names of its sentences."""
    if not result.valid:
        return ["invalid"]
    if result.config.get("target", {}).get("world") == "null":
        return ["null_world"]
    if found is None:
        return ["absent"]
    role = Role(found.role) if found.role else None
    recorded = [] if role is None or role.member is None else [f"recorded_{'member' if role.member else 'held_out'}"]
    if role is Role.PUBLIC:
        return ["public"]
    if role is not None and role.known:
        return ["known", *recorded]
    if not _tested(found, result):
        return [*recorded, "not_scored"]
    p_value = found.p_value or 0.0
    apart = ["apart"] if recorded else []
    return [*recorded, *apart, "striking" if p_value <= CHANCE_LEVEL else "unremarkable", "compared", "p_value"]


def _limits(found: LookupResult | None, result: AuditResult) -> list[str]:
    if found is None or not _tested(found, result):
        return []
    weak = _at_chance(result, found.attack)
    missed = [] if weak or _smallest_level(result, found.attack) is None else ["limit_missed"]
    return ["limit_evidence", *(["limit_weak"] if weak else missed), "limit_same"]


def _tested(found: LookupResult, result: AuditResult) -> bool:
    """Whether there is a p-value that says something about this person."""
    status = next((attack.status for attack in result.attacks if attack.name == found.attack), "")
    null = result.config.get("target", {}).get("world") == "null"
    return result.valid and not null and found.p_value is not None and status not in NO_EVIDENCE


def _figures(found: LookupResult | None, result: AuditResult, spoken: Mapping[str, Any]) -> dict[str, str]:
    """Every number of the letter as its language writes it."""

    def whole(number: int) -> str:
        return f"{number:,}".replace(",", spoken["thousands"]) if number >= spoken["grouped_from"] else str(number)

    def share(value: float) -> str:
        # Rounded down, so that nothing sounds stronger than it is.
        tenths = math.floor(1_000 * value + 1e-6) / 10
        return f"{tenths:g}".replace(".", spoken["decimal"]) + spoken["percent"]

    if found is None:
        return {}
    figures = {"matched": whole(found.matched), "unmatched": whole(len(found.unmatched)), "thousand": whole(1_000)}
    if found.p_value is not None:
        figures["n"] = whole(found.calibration_users)
        figures["share"] = share(found.share_below or 0.0)
        figures["expected"] = whole(min(1_000, max(1, math.ceil(found.p_value * 1_000 - 1e-3))))
        digits = 3 if found.p_value >= 0.001 else -math.floor(math.log10(found.p_value))
        rounded = min(1.0, math.ceil(found.p_value * 10**digits - 1e-6) / 10**digits)
        figures["p"] = f"{rounded:.{digits}f}".replace(".", spoken["decimal"])
    level = _smallest_level(result, found.attack)
    if level is not None:
        rate = result.metric(found.attack, f"tpr_at_fpr_{level}")
        found_share = 0.0 if rate is None else rate.value or 0.0
        figures |= {"level": share(float(level)), "missed": share(1 - found_share)}
    return figures


def _smallest_level(result: AuditResult, attack: str) -> str | None:
    """The lowest false-positive rate at which these users resolve how many the attack finds."""
    for level in LEVELS:
        rate = result.metric(attack, f"tpr_at_fpr_{level}")
        if rate is not None and rate.value is not None and rate.value < 1:
            return level
    return None


def _at_chance(result: AuditResult, attack: str) -> bool:
    auc = result.metric(attack, "auc")
    return auc is None or auc.low is None or auc.low <= 0.5


def _day(day: date, language: str) -> str:
    month = _spoken(language)["months"].split()[day.month - 1]
    number = "1er" if language == "fr" and day.day == 1 else str(day.day)
    return DATES[language].format(day=number, month=month, year=day.year)


@cache
def _spoken(language: str) -> dict[str, Any]:
    text = resources.files("mia_core.report").joinpath("letters", f"{language}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
