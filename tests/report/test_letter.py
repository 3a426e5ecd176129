"""The letter to one person: the same facts in every language, and nothing that was not found."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from string import Formatter
from typing import Any

import pypdf
import pytest
from typer.testing import CliRunner

from mia_core.__main__ import application
from mia_core.report.letter import LANGUAGES, Letter, Office, _spoken, as_text, compose_letter, find_subject, letter_pdf
from mia_core.report.results import AuditResult, LookupResult
from mia_core.storage.seal import SealingKey, check_seal
from mia_core.storage.store import Store
from mia_core.types import Gate, Role
from tests.conftest import KEY, UNSCORED

OFFICE = Office("Example Works", "privacy@example.org", "DS-17")
DAY = date(2026, 3, 1)
FOUND = LookupResult(
    subject="ana",
    role=Role.AUDITED_HELD_OUT,
    attack="distillation",
    windows=3,
    matched=27,
    unmatched=[],
    score=1.5,
    p_value=0.0123,
    calibration_users=1_234,
    share_below=0.98765,
    member_scores=[],
    held_out_scores=[],
)


@pytest.fixture
def write(make_result: Callable[..., AuditResult]) -> Callable[..., Letter]:
    """A letter about what was found; keyword arguments change the finding."""

    def write_(language: str = "en", result: AuditResult | None = None, **changes: Any) -> Letter:
        found = dataclasses.replace(FOUND, **changes)
        return compose_letter(found, result or make_result(), language, OFFICE, day=DAY)

    return write_


def said(letter: Letter) -> str:
    return " ".join(paragraph for _, paragraphs in letter.parts for paragraph in paragraphs)


def numbers(text: str) -> list[str]:
    """Every number, however its language marks thousands and decimals."""
    joined = re.sub(r"(?<=\d)[\u00a0,.](?=\d{3}(?!\d))(?<![^\d]0.)", "", text)
    return sorted(found.replace(",", ".") for found in re.findall(r"\d+(?:[.,]\d+)?", joined))


def test_every_language_has_the_same_sentences_with_the_same_blanks() -> None:
    def blanks(text: str) -> set[str]:
        return {name for _, name, _, _ in Formatter().parse(text) if name}

    english = _spoken("en")["words"]
    for language in LANGUAGES:
        words = _spoken(language)["words"]
        assert words.keys() == english.keys()
        assert len(_spoken(language)["months"].split()) == 12
        for name, text in words.items():
            assert blanks(text) == blanks(english[name]), (language, name)
            assert language == "en" or len(text) < 12 or text != english[name], f"{name} is left in English"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"p_value": 0.4},
        {"role": "", "unmatched": ["a", "b"]},
        {"role": Role.KNOWN_MEMBER, "p_value": None},
        {"role": Role.PUBLIC, "p_value": None, "score": None},
    ],
)
def test_every_language_tells_the_same_numbers(write: Callable[..., Letter], changes: dict[str, Any]) -> None:
    told = {}
    for language in LANGUAGES:
        letter = write(language, **changes)
        # Days and months are written as each language does.
        plain = said(letter).replace(letter.key[:12], "")
        told[language] = numbers(plain)
    assert told["en"] == told["de"] == told["fr"] == told["es"]
    assert told["en"]


def test_numbers_and_dates_are_written_as_the_language_does(write: Callable[..., Letter]) -> None:
    assert "1,234 comparable people" in said(write("en"))
    assert "98.7% of them" in said(write("en"))
    assert "1.234 vergleichbaren Personen" in said(write("de"))
    assert "98,7\u00a0%" in said(write("de"))
    assert "1\u00a0234 personnes" in said(write("fr"))
    assert "p\u00a0=\u00a00,013" in said(write("es"))
    days = {language: write(language).day for language in LANGUAGES}
    assert days == {"en": "1 March 2026", "de": "1. März 2026", "fr": "1er mars 2026", "es": "1 de marzo de 2026"}


def test_a_p_value_is_never_made_smaller_than_it_is(write: Callable[..., Letter]) -> None:
    assert "about 13 would" in said(write(p_value=0.0123))
    assert "0.00009" in said(write(p_value=0.0000811))
    assert "about 1 would" in said(write(p_value=0.0000811))


def test_small_and_large_p_values_are_worded_apart_and_neither_is_certain(write: Callable[..., Letter]) -> None:
    small, large = said(write(p_value=0.01)), said(write(p_value=0.3))
    assert "but no certainty" in small
    assert "no indication" not in small
    assert "does not rule it out" in large
    for text in (small, large):
        assert "not the probability that your data were used" in text
        assert not re.search(r"\bprove|guarantee|complian", text)


def test_not_in_the_data_is_kept_apart_from_looking_like_everybody_else(
    make_result: Callable[..., AuditResult], write: Callable[..., Letter]
) -> None:
    absent = said(compose_letter(None, make_result(), "en", OFFICE, subject="nobody", day=DAY))
    assert "does not occur in the data" in absent
    assert "“nobody”" in absent
    assert "compared with" not in absent
    assert "does not occur" not in said(write(p_value=0.7))


@pytest.mark.parametrize(
    ("role", "says"),
    [
        (Role.PUBLIC, "general comparison material"),
        (Role.KNOWN_MEMBER, "you are one of them"),
        (Role.KNOWN_HELD_OUT, "you are one of them"),
    ],
)
def test_whoever_helped_to_build_the_audit_is_told_so_and_gets_no_test_result(
    write: Callable[..., Letter], role: Role, says: str
) -> None:
    text = said(write(role=role, p_value=None))
    assert "used to build the audit itself" in text
    assert says in text
    assert "p\u00a0=" not in text


@pytest.mark.parametrize(
    ("role", "used"), [(Role.AUDITED_MEMBER, True), (Role.AUDITED_HELD_OUT, False), (Role.JUDGED, None)]
)
def test_what_is_on_record_is_said_where_there_is_a_record(
    write: Callable[..., Letter], role: Role, used: bool | None
) -> None:
    text = said(write(role=role))
    assert ("your data are among those" in text) == (used is True)
    assert ("your data are not among those" in text) == (used is False)


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_invalid_audit_makes_no_statement(
    language: str, make_result: Callable[..., AuditResult], write: Callable[..., Letter]
) -> None:
    invalid = make_result(gates=[Gate("null", False, 0.4, 0.001, 70, "Failed.", "Mend it.")])
    letter = write(language, result=invalid)
    assert _spoken(language)["words"]["invalid"] in said(letter)
    assert _spoken(language)["words"]["recorded_held_out"] not in said(letter)
    assert not {"0013", "987", "1234"} & set(re.sub(r"\D", " ", said(letter)).split())


def test_an_attack_that_is_no_evidence_is_none_in_a_letter(
    make_result: Callable[..., AuditResult], write: Callable[..., Letter]
) -> None:
    leaking = [dataclasses.replace(attack, status="demonstration") for attack in make_result().attacks]
    assert "No result could be obtained" in said(write(result=make_result(attacks=leaking)))


def test_what_the_office_left_empty_is_a_blank_to_be_filled(make_result: Callable[..., AuditResult]) -> None:
    text = as_text(compose_letter(FOUND, make_result(), "de", Office(), day=DAY))
    for blank in ("[Organisation]", "[Ansprechstelle]", "[Aktenzeichen]"):
        assert blank in text


def test_the_text_fits_a_mail_and_says_what_the_pdf_says(write: Callable[..., Letter], store: Store) -> None:
    letter = write("fr")
    text = as_text(letter)
    assert max(len(line) for line in text.splitlines()) <= 78
    sealed = letter_pdf(letter, SealingKey(store.home))
    assert check_seal(sealed)
    reader = pypdf.PdfReader(io.BytesIO(sealed))
    printed = re.sub(r"\s", "", " ".join(page.extract_text() for page in reader.pages))
    for _, paragraphs in letter.parts:
        for paragraph in paragraphs:
            # Each sentence stands on one page; a paragraph may go on behind its foot.
            for sentence in re.split(r"(?<=[.!?]) ", paragraph):
                assert re.sub(r"\s", "", sentence) in printed
            assert re.sub(r"\s", "", paragraph) in re.sub(r"\s", "", text)
    root: Any = reader.trailer["/Root"]
    assert root["/Lang"] == "fr"
    assert root["/MarkInfo"]["/Marked"]
    assert b"pdfuaid" in root["/Metadata"].get_data()


def test_an_id_in_a_letter_is_inert(write: Callable[..., Letter], store: Store) -> None:
    hostile = '#eval("1") *x* <b>\u202e' + "W" * 500 + "{n} {0.__class__}"
    letter = write("es", subject=hostile)
    assert "\u202e" not in said(letter)
    assert '#eval("1") *x* <b>' in said(letter)
    assert len(pypdf.PdfReader(io.BytesIO(letter_pdf(letter, SealingKey(store.home)))).pages) <= 2


def test_people_are_found_by_id_or_are_not_there(saved: AuditResult, store: Store) -> None:
    found = find_subject(store, KEY, "00123")
    assert found is not None
    assert found.p_value is not None
    assert find_subject(store, KEY, "123") is None
    unscored = find_subject(store, KEY, UNSCORED)
    assert "No result could be obtained" in said(compose_letter(unscored, saved, "en", OFFICE))


def test_the_command_line_writes_letters(saved: AuditResult, store: Store, tmp_path: Path) -> None:
    def run(*arguments: str) -> int:
        done = CliRunner().invoke(application, ["lookup", "latest", *arguments])
        return 0 if done.exit_code == 0 else getattr(done.exception, "exit_code", 1)

    pdf, text = tmp_path / "letter.pdf", tmp_path / "letter.txt"
    assert run("00123", "--letter", str(pdf), "--language", "de") == 0
    assert check_seal(pdf.read_bytes()).public_key == SealingKey(store.home).public_key
    assert run("nobody", "--letter", str(text), "--language", "es") == 6
    assert "no figura en los datos" in " ".join(text.read_text().split())
    assert run("00123", "--letter", str(tmp_path / "letter.docx")) == 2
    assert run("00123", "--letter", str(pdf), "--attack", "loss") == 2
    assert run("00123", "--letter", str(pdf), "--language", "it") != 0
