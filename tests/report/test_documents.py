"""The report as HTML, PDF and package: everything in it, nothing alive in it, the same bytes for the same audit."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pypdf
import pytest
from typer.testing import CliRunner

from mia_core.__main__ import application
from mia_core.experiment import parse_experiment
from mia_core.report.contents import SECTIONS, compose
from mia_core.report.document import inert
from mia_core.report.export import metrics_document
from mia_core.report.finished import Annex, Finished, read_finished
from mia_core.report.html import as_html
from mia_core.report.package import audit_json, exported, sealed_html, sealed_package, split_json, users_of
from mia_core.report.pdf import as_pdf
from mia_core.report.results import AuditResult, Claims, PrivacyBound
from mia_core.report.wording import claims_of, headline
from mia_core.storage.seal import SealingKey, check_seal
from mia_core.storage.store import Store
from mia_core.toml import as_toml
from mia_core.types import SESSION, Gate, Metric
from tests.conftest import KEY, ODD_IDS
from tests.test_units import of_users

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
GATES = [
    Gate(
        "blind", True, 0.5, 0.42, 200, "Histories alone do not tell members apart: p = 0.420.", "Draw the split anew."
    ),
    Gate("null", True, 0.1, 0.31, 70, "p-values of held-out users are uniform; p = 0.310.", "Leave the stratum out."),
]
FAILED = [
    GATES[0],
    Gate("null", False, 0.4, 0.001, 70, "p-values of some users are not uniform.", "Compare like with like."),
]
CLAIMS = Claims(
    0.05, 3, 2, "At least 3 must stand out.", 0.2, 2.5,
    [PrivacyBound("one_run", 1.25, 1e-5, "With 95% confidence, epsilon is at least 1.25.")], [], "loss, 0.61 on known users",
)  # fmt: skip
HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    '# *bold* [link](https://evil.example) ![](https://evil.example/x.png) "quoted" </td></table>',
    '#eval("1+1") $x^2$ #import "evil.typ" @ref <label> \\ ` ``` // /* `#{',
    "\u202eesrever\u202c \u2066isolated\u2069 \x1b[31m bell\x07",
    '=HYPERLINK("https://evil.example";"x")',
    "W" * 10_000,
)
SCRIPTS = ("Zoë Straße", "Фёдор Достоевский", "Ελένη Παπαδοπούλου", "محمد نجيب محفوظ", "村上春樹", "王小波", "한강")


class Text(HTMLParser):
    """The words that a reader sees, and every attribute."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return squeezed(" ".join(self.words))


def squeezed(text: str) -> str:
    """Without what depends on where lines end."""
    return re.sub(r"[\s\u200b]", "", text)


def pdf_text(content: bytes) -> str:
    return squeezed(" ".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(content)).pages))


@pytest.fixture
def finished(
    store: Store, make_result: Callable[..., AuditResult], save_audit: Callable[[AuditResult], AuditResult]
) -> Callable[..., Finished]:
    """A finished audit in the store; `ids` replace those of the first audited users."""

    def make(ids: tuple[str, ...] = (), **changes: Any) -> Finished:
        save_audit(make_result(**{"gates": GATES, "claims": CLAIMS, **changes}))
        found = read_finished(store, KEY)
        if ids:
            path = found.folder / "users.parquet"
            users = pl.read_parquet(path)
            first = users["role"].to_list().index("audited_member")
            names = users["user"].to_list()
            names[first : first + len(ids)] = ids
            path.chmod(0o600)
            users.with_columns(pl.Series("user", names)).write_parquet(path)
        return found

    return make


def figures(metric: Metric) -> Iterator[str]:
    for value in (metric.value, metric.low, metric.high):
        if value is not None and metric.value is not None:
            yield f"{value:.3f}"


def test_html_and_pdf_hold_every_figure_gate_claim_and_note(finished: Callable[..., Finished]) -> None:
    told = finished(notes=["1 user could not be scored.", "The second note."])
    document = compose(told)
    for text in (Text(as_html(document)).text, pdf_text(as_pdf(document))):
        for metric in told.result.metrics:
            for figure in figures(metric):
                assert figure in text, metric
            assert squeezed(metric.reason) in text
        wanted = [headline(told.result), *told.result.notes, *(gate.sentence for gate in GATES), told.result.key]
        wanted += [claim.sentence for claim in claims_of(told.result)]
        wanted += [f"{attack.title}" for attack in told.result.attacks]
        wanted += [title for name, (title, _) in SECTIONS.items() if name not in ("annex", "follow_ups")]
        for sentence in wanted:
            assert squeezed(sentence) in text, sentence


def test_an_invalid_audit_says_so_before_any_figure(finished: Callable[..., Finished]) -> None:
    told = finished(gates=FAILED)
    document = compose(told)
    for text in (Text(as_html(document)).text, pdf_text(as_pdf(document))):
        says = text.index("INVALID")
        assert squeezed("Compare like with like.") in text
        assert all(says < text.index(figure) for metric in told.result.metrics for figure in figures(metric))
        assert "Valid:" not in text


def test_sections_can_be_left_out_but_not_what_a_reader_must_know(finished: Callable[..., Finished]) -> None:
    document = compose(finished(gates=FAILED), left_out=tuple(SECTIONS))
    assert [section.name for section in document.sections] == ["question", "gates", "results", "limits"]
    assert "INVALID" in document.stamp


def test_names_and_ids_come_out_inert(finished: Callable[..., Finished]) -> None:
    told = finished(ids=HOSTILE, name=HOSTILE[2], notes=[f"A note on {name[:100]}" for name in HOSTILE])
    document = compose(told, "ids", left_out=tuple(SECTIONS))
    pdf = as_pdf(document)
    pages = [Text(as_html(dataclasses.replace(document, title=inert(name)))) for name in HOSTILE]
    for name, page in zip(HOSTILE, pages, strict=True):
        assert page.text.count(squeezed(inert(name))) >= 2, "as the title and as an id"
        assert not {"script", "img", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
        assert not [attribute for attribute, _ in page.attributes if attribute.startswith("on")]
        assert squeezed(inert(name, 60))[:-1] in pdf_text(pdf)
    reader = pypdf.PdfReader(io.BytesIO(pdf))
    assert len({float(sheet.mediabox.width) for sheet in reader.pages}) == 1


def test_long_names_do_not_leave_the_page(finished: Callable[..., Finished]) -> None:
    told = finished(ids=("W" * 10_000,), name="M" * 10_000)
    reader = pypdf.PdfReader(io.BytesIO(as_pdf(compose(told, "ids", left_out=tuple(SECTIONS)))))
    right = float(reader.pages[0].mediabox.right)
    places: list[float] = []
    for sheet in reader.pages:
        sheet.extract_text(
            visitor_text=lambda text, _cm, tm, _font, size: places.append(tm[4] if text.strip() else 0.0)
        )
    assert 0 < max(places) < right - 40


def test_the_page_asks_nothing_of_anybody(finished: Callable[..., Finished]) -> None:
    content = as_html(compose(finished(), "pseudonyms"))
    page = Text(content)
    assert not [value for name, value in page.attributes if name in ("src", "srcset", "action", "data", "xlink:href")]
    assert all(value.startswith("#") for name, value in page.attributes if name == "href")
    assert not re.search(rb"https?:|@import|url\((?!#)", content)
    assert b"default-src 'none'" in content


def test_the_page_can_be_read_by_ear(finished: Callable[..., Finished]) -> None:
    content = as_html(compose(finished())).decode()
    page = Text(content.encode())
    assert ("lang", "en") in page.attributes
    assert page.tags.count("h1") == 1
    assert page.tags.count("caption") == page.tags.count("table")
    assert {value for name, value in page.attributes if name == "scope"} == {"col", "row"}
    names = [value for name, value in page.attributes if name == "id"]
    assert len(names) == len(set(names)), "every drawing's inner names are its own"
    pictures = re.findall(r'<svg[^>]*role="img" aria-labelledby="(\S+) (\S+)"', content)
    assert len(pictures) == content.count("<svg") >= 4
    for title, description in pictures:
        assert re.search(rf'<title id="{title}">[^<]+</title><desc id="{description}">[^<]+</desc>', content)


def test_the_pdf_is_tagged_titled_and_describes_its_charts(finished: Callable[..., Finished]) -> None:
    content = as_pdf(compose(finished()))
    root: Any = pypdf.PdfReader(io.BytesIO(content)).trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"]
    assert root["/Lang"] == "en-GB"
    assert root["/ViewerPreferences"]["/DisplayDocTitle"]
    assert pypdf.PdfReader(io.BytesIO(content)).metadata.title.startswith("Tiny audit")  # type: ignore[union-attr]
    assert b"pdfuaid" in root["/Metadata"].get_data()
    found: list[Any] = []

    def walk(node: Any) -> None:
        node = node.get_object()
        if isinstance(node, list):
            for child in node:
                walk(child)
        elif isinstance(node, dict) and "/S" in node:
            found.append(node)
            walk(node.get("/K", []))

    walk(root["/StructTreeRoot"]["/K"])
    kinds = {str(node["/S"]) for node in found}
    assert {"/H1", "/Table", "/TH", "/TD", "/L", "/Figure"} <= kinds
    drawn = [node for node in found if node["/S"] == "/Figure" and "/Alt" in node]
    assert any("Members" in str(node["/Alt"]) or "members" in str(node["/Alt"]) for node in drawn)
    assert len(drawn) >= 4


def test_names_of_many_scripts_can_be_copied_from_the_pdf(finished: Callable[..., Finished]) -> None:
    text = pdf_text(as_pdf(compose(finished(ids=SCRIPTS), "ids", left_out=tuple(SECTIONS))))
    for name in SCRIPTS:
        for word in name.split():
            assert word in text, word


def test_the_same_audit_gives_the_same_bytes(finished: Callable[..., Finished], store: Store) -> None:
    told, key = finished(), SealingKey(store.home)
    packages = [sealed_package(told, key, "pseudonyms", now=NOON) for _ in range(2)]
    assert packages[0] == packages[1]
    early, late = (sealed_html(told, key, "none", now=NOON.replace(year=year)) for year in (2026, 2027))
    assert early != late
    assert early[: early.rindex(b"<!--")] == late[: late.rindex(b"<!--")]


def opened(package: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_package_is_sealed_whole_and_in_its_reports(finished: Callable[..., Finished], store: Store) -> None:
    key = SealingKey(store.home)
    package = sealed_package(finished(), key, "ids")
    files = opened(package)
    for content in (package, files["report.html"], files["report.pdf"]):
        assert check_seal(content).public_key == key.public_key
    assert key.fingerprint in files["README.txt"].decode().replace(" ", "")
    assert len(files["SHA256SUMS"].splitlines()) == len(files) - 1


@pytest.mark.parametrize("annex", ["none", "pseudonyms"])
def test_without_real_ids_there_is_none_anywhere(annex: Annex, finished: Callable[..., Finished], store: Store) -> None:
    told = finished(ids=("ana-only-id", "bela-only-id"))
    files = opened(sealed_package(told, SealingKey(store.home), annex))
    for name, content in files.items():
        assert b"only-id" not in content, name
    assert "only-id" not in pdf_text(files["report.pdf"])
    assert ("users.csv" in files) == (annex == "pseudonyms")
    assert "only-id" not in str(pl.read_parquet(files["users.parquet"])["user"].to_list() if annex != "none" else "")
    assert b"score" in files["audit.json"]


def test_a_pseudonym_is_the_same_in_every_file_and_another_in_another_home(finished: Callable[..., Finished]) -> None:
    told = finished(ids=("ana-only-id",))
    name = told.naming("pseudonyms")("ana-only-id")
    assert re.fullmatch("[0-9a-f]{16}", name)
    assert name in users_of(told, "pseudonyms")["user"].to_list()
    assert name in {row["user"] for row in json.loads(audit_json(told, "pseudonyms"))["users"]}
    assert name in as_html(compose(told, "pseudonyms")).decode()
    other = Finished(**{**told.__dict__, "secret": b"another"})
    assert other.naming("pseudonyms")("ana-only-id") != name
    assert told.naming("ids")("ana-only-id") == "ana-only-id"


def test_pseudonyms_of_two_audits_cannot_be_joined(finished: Callable[..., Finished]) -> None:
    one, another = finished(), finished()
    another = dataclasses.replace(another, result=dataclasses.replace(another.result, key="f" * 64))
    assert one.secret == another.secret
    assert one.naming("pseudonyms")("ana-only-id") != another.naming("pseudonyms")("ana-only-id")


def test_the_split_names_its_hash_and_its_users_as_the_report_does(finished: Callable[..., Finished]) -> None:
    manifest = {
        "sha256": "ab" * 32,
        "split": {"seed": 3, "drawn": "by lot", "roles": {"ana": "public", "bela": "judged"}},
    }
    told = Finished(**{**finished().__dict__, "split": manifest})
    assert json.loads(split_json(told, "ids"))["split"]["roles"] == manifest["split"]["roles"]  # type: ignore[index]
    shown = json.loads(split_json(told, "pseudonyms"))
    assert sorted(shown["split"]["roles"].values()) == ["judged", "public"]
    assert "ana" not in shown["split"]["roles"]
    assert json.loads(split_json(told, "none"))["split"]["roles"] == {}
    assert shown["sha256"] == "ab" * 32
    assert "ab" * 32 in as_html(compose(told)).decode()


def test_cells_of_the_table_cannot_become_formulas(finished: Callable[..., Finished], store: Store) -> None:
    told = finished(ids=("=1+1", "+2", "-3", "@x"))
    table = exported(told, SealingKey(store.home), "ids")["users.csv"]().decode()
    assert not re.search(r"(?m)(^|,)\"?[=+@]", table)
    assert "'=1+1" in table


def test_the_settings_run_the_same_audit_again(finished: Callable[..., Finished], store: Store) -> None:
    told = finished()
    settings = exported(told, SealingKey(store.home), "none")["config.toml"]().decode()
    assert parse_experiment(tomllib.loads(settings)).model_dump(mode="json") == told.result.config


def test_the_json_is_the_document_that_the_command_line_writes(finished: Callable[..., Finished]) -> None:
    told = finished()
    expected = metrics_document(told.result, told.table("users"), told.follow_ups)
    assert json.loads(audit_json(told, "ids")) == json.loads(json.dumps(expected))
    assert json.loads(audit_json(told, "none")) == {**expected, "users": []}


def test_the_command_line_writes_reports(saved: AuditResult, store: Store, tmp_path: Path) -> None:
    def run(*arguments: str) -> int:
        done = CliRunner().invoke(application, ["report", "latest", *arguments])
        return 0 if done.exit_code == 0 else getattr(done.exception, "exit_code", 1)

    paths = [tmp_path / name for name in ("a.html", "a.pdf", "a.zip")]
    options = [
        text
        for option, path in zip(("--html", "--pdf", "--package"), paths, strict=True)
        for text in (option, str(path))
    ]
    assert run(*options, "--annex", "pseudonyms") == 0
    for path in paths:
        assert check_seal(path.read_bytes()).public_key == SealingKey(store.home).public_key
    assert "users.csv" in opened(paths[2].read_bytes())
    assert run("--html", str(tmp_path)) == 2
    assert run("--pdf", str(tmp_path / "nowhere" / "a.pdf")) == 2


def test_toml_holds_any_text_and_nesting() -> None:
    document = {
        "a": 'q"\\\n\x7f\u2028=[x]',
        "odd key.": 1,
        "none": None,
        "in": {"empty": {}, "list": [1.5, True, "é"], "x": {"y": "z"}},
    }
    assert tomllib.loads(as_toml(document)) == {name: value for name, value in document.items() if name != "none"}


def test_a_long_annex_is_cut_and_says_so(finished: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mia_core.report.contents.ANNEX_ROWS", 10)
    told = finished()
    text = Text(as_html(compose(told, "ids"))).text
    assert squeezed("These are the first 10 of 200 users") in text
    assert users_of(told, "ids").height == 205


def test_an_id_without_letters_in_the_fonts_leaves_the_pdf_tagged(finished: Callable[..., Finished]) -> None:
    assert any("🎬" in name for name in ODD_IDS)
    root: Any = pypdf.PdfReader(io.BytesIO(as_pdf(compose(finished(), "ids", left_out=tuple(SECTIONS))))).trailer[
        "/Root"
    ]
    assert root["/MarkInfo"]["/Marked"]


def test_an_audit_of_before_there_were_gates_and_splits_has_a_report(finished: Callable[..., Finished]) -> None:
    document = compose(finished(gates=[], claims=None, agreement=[], quality=[], artifacts=[]))
    assert document.stamp == "No gate was tried"
    # Who had which role is then read off the table of users.
    assert squeezed("Split manifest (SHA-256)") in pdf_text(as_pdf(document))


def test_a_report_on_sessions_speaks_of_sessions(finished: Callable[..., Finished]) -> None:
    told = finished(
        data={"users": 205, "items": 50, "interactions": 6000, "key": "da" * 32, "unit": "session"}, notes=[]
    )
    # An audit says its reasons in the words of its unit.
    metrics = [dataclasses.replace(metric, reason=SESSION.say(metric.reason)) for metric in told.result.metrics]
    told = dataclasses.replace(told, result=dataclasses.replace(told.result, metrics=metrics, gates=[]))
    # Settings keep the names that a config file gives them.
    content = as_html(compose(told, "pseudonyms", left_out=["keys"]))
    words = Text(content[content.index(b"</head>") :]).words
    assert [found for text in words for found in of_users(text)] == []
    assert "sessions" in " ".join(words)
