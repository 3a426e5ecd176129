"""The log notices whatever is done to it, and says where."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mia_core.errors import Cancelled, ConfigError, DataError, Stopped
from mia_core.storage import journal
from mia_core.storage.store import OWNERS

ID = "person-7f3a91"


@pytest.fixture(autouse=True)
def in_a_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever another test of this process came by."""
    monkeypatch.setattr(journal, "_way", "browser")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for i in range(5):
        journal.note(tmp_path, "audit finished", key=f"{i}" * 64)
    return tmp_path


def lines_of(home: Path) -> list[bytes]:
    return (home / journal.LINES).read_bytes().splitlines(keepends=True)


def rewrite(home: Path, lines: list[bytes]) -> None:
    (home / journal.LINES).write_bytes(b"".join(lines))


def rechained(lines: list[bytes]) -> list[bytes]:
    """A forger's work: every number and hash made to fit again."""
    made: list[bytes] = []
    for number, line in enumerate(lines, 1):
        document = json.loads(line)
        before = journal._digest(made[-1].rstrip(b"\n")) if made else journal.BEGINNING
        made.append(json.dumps({**document, "number": number, "before": before}).encode() + b"\n")
    return made


def test_what_was_noted_is_read_the_latest_first_by_its_owner_alone(home: Path) -> None:
    events = journal.read(home)
    assert [event.about["key"][0] for event in events] == list("43210")
    assert [event.number for event in journal.read(home, most=2)] == [5, 4]
    assert events[0].who.startswith("account ")
    assert events[0].way == "browser"
    assert journal.verify(home).intact
    for name in (journal.LINES, journal.SEAL):
        assert (home / name).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("which", [1, 3, 5])
def test_a_changed_line_is_named(home: Path, which: int) -> None:
    lines = lines_of(home)
    lines[which - 1] = lines[which - 1].replace(b"finished", b"FINISHED")
    rewrite(home, lines)
    assert [line for line, _ in journal.verify(home).faults] == [which]


@pytest.mark.parametrize("which", [1, 2, 4])
def test_a_line_that_was_taken_out_is_named(home: Path, which: int) -> None:
    lines = lines_of(home)
    del lines[which - 1]
    rewrite(home, lines)
    ((line, what),) = journal.verify(home).faults
    assert line == which
    assert f"entry {which} missing" in what


def test_lines_in_another_order_are_named(home: Path) -> None:
    first, second, third, *rest = lines_of(home)
    rewrite(home, [first, third, second, *rest])
    assert {line for line, _ in journal.verify(home).faults} >= {2, 3}


@pytest.mark.parametrize("left", [0, 1, 4])
def test_an_end_that_was_cut_off_is_noticed(home: Path, left: int) -> None:
    rewrite(home, lines_of(home)[:left])
    ((line, what),) = journal.verify(home).faults
    assert line == left
    assert "to 5 were cut off" in what
    # Whoever writes next does not hide it.
    journal.note(home, "audit finished", key="e" * 64)
    assert not journal.verify(home).intact
    assert "missing" in journal.verify(home).faults[0][1]


def test_a_forger_who_makes_all_hashes_fit_lacks_the_key(home: Path) -> None:
    lines = lines_of(home)
    del lines[2]
    rewrite(home, rechained(lines))
    assert not journal.verify(home).intact
    # Without the seal nothing can be told at first sight, so its absence is a fault in itself, now and later.
    (home / journal.SEAL).unlink()
    assert not journal.verify(home).intact
    journal.note(home, "audit finished", key="e" * 64)
    assert any("seal" in what for _, what in journal.verify(home).faults)


def test_a_line_put_behind_the_end_never_becomes_part_of_the_log(home: Path) -> None:
    forged = rechained([*lines_of(home), lines_of(home)[-1].replace(b"4444", b"9999")])
    with (home / journal.LINES).open("ab") as stream:
        stream.write(forged[-1])
    assert [line for line, _ in journal.verify(home).faults] == [6]
    journal.note(home, "audit deleted", key="e" * 64)
    assert journal.verify(home).intact
    assert [event.what for event in journal.read(home, 2)] == ["audit deleted", journal.PUT_ASIDE]
    assert forged[-1] in (home / journal.ASIDE).read_bytes()


def test_a_half_written_line_is_put_aside_and_said(home: Path) -> None:
    with (home / journal.LINES).open("ab") as stream:
        stream.write(b'{"number": 6, "at": "20')
    assert "cut short" in journal.verify(home).faults[0][1]
    journal.note(home, "audit finished", key="e" * 64)
    assert journal.verify(home).intact
    latest, mended = journal.read(home, 2)
    assert (latest.what, mended.what, mended.about) == ("audit finished", journal.PUT_ASIDE, {"bytes": 23})


@pytest.mark.parametrize("step", ["before the line", "before its seal"])
def test_a_writer_killed_at_any_step_leaves_a_log_that_goes_on(
    home: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    seal = journal._seal

    def killed(*given: object) -> None:
        end = given[2]
        assert isinstance(end, journal._End)
        if step == "before the line":
            seal(*given)  # type: ignore[arg-type]
            raise SystemExit
        if not end.next_digest:
            raise SystemExit
        seal(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(journal, "_seal", killed)
    with pytest.raises(SystemExit):
        journal.note(home, "audit finished", key="e" * 64)
    monkeypatch.setattr(journal, "_seal", seal)
    written = 5 + (step == "before its seal")
    assert journal.verify(home).faults == []
    assert len(journal.read(home)) == written
    journal.note(home, "audit finished", key="f" * 64)
    assert journal.verify(home).intact
    assert len(journal.read(home)) == written + 1


def test_an_event_is_told_on_one_line_and_whole(tmp_path: Path) -> None:
    keys = [f"{i}" * 64 for i in range(5)]
    journal.note(tmp_path, "example opened", keys=keys, with_it=0, kept=[])
    (event,) = journal.read(tmp_path)
    assert journal.describe(event) == f"keys {'0' * 12}, {'1' * 12}, {'2' * 12} …; with it 0"
    assert journal.subjects(event) == {"keys": [key[:12] for key in keys], "with it": ["0"]}


def test_several_processes_keep_one_chain(home: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from mia_core.storage import journal\n"
        "for _ in range(8): journal.note(Path(sys.argv[1]), 'looked up')"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(home)], env={**os.environ}) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert journal.verify(home).intact
    assert len(journal.read(home)) == 5 + 3 * 8


def test_a_mark_that_was_noted_elsewhere_shows_a_log_that_was_written_anew(home: Path) -> None:
    mark = journal.verify(home).mark
    journal.note(home, "audit finished", key="e" * 64)
    assert journal.verify(home, (mark,)).intact
    for name in (journal.LINES, journal.SEAL):
        (home / name).unlink()
    for _ in range(7):
        journal.note(home, "audit finished", key="0" * 64)
    assert journal.verify(home).intact
    assert journal.verify(home, (mark,)).faults[0][0] == 5
    with pytest.raises(ConfigError, match="NUMBER:HASH"):
        journal.verify(home, ("latest",))


def test_a_person_is_a_keyed_hash_until_somebody_is_erased(home: Path) -> None:
    before = journal.person(home, ID)
    journal.note(home, "looked up", person=before)
    assert before == journal.person(home, ID) != journal.person(home, ID + "x")
    assert ID.encode() not in (home / journal.LINES).read_bytes()
    journal.forget_persons(home)
    assert journal.person(home, ID) != before


def test_work_is_noted_as_it_ends(tmp_path: Path) -> None:
    with journal.work(tmp_path, "audit", job="1") as finished:
        finished(key="k" * 64)
    with pytest.raises(DataError), journal.work(tmp_path, "study"):
        raise DataError(f"line 3 of {ID}")
    # As a job is stopped, and as a command is.
    for stop in (Stopped(), Cancelled("stopped")):
        with pytest.raises(type(stop)), journal.work(tmp_path, "forget"):
            raise stop
    said = [(event.what, event.about) for event in reversed(journal.read(tmp_path))]
    assert said == [
        ("audit started", {"job": "1"}),
        ("audit finished", {"job": "1", "key": "k" * 64}),
        ("study started", {}),
        ("study failed", {"error": "DataError"}),
        *[("forget started", {}), ("forget cancelled", {})] * 2,
    ]
    assert ID.encode() not in (tmp_path / journal.LINES).read_bytes()


def test_who_signed_in_is_named_and_their_log_is_sealed_by_the_installation(tmp_path: Path) -> None:
    owner = tmp_path / OWNERS / ("a1" * 16)
    journal.note(owner, "looked up")
    assert journal.read(owner)[0].who == f"signed in {'a1' * 16}"
    assert journal.verify(owner).intact
    assert not (owner / "seal.pem").exists()
