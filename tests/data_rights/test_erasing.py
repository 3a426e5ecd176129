"""Erasing a person leaves nothing of them in any file, says what went and not whose it was, and keeps others' audits."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from mia_core import parquet
from mia_core.__main__ import application
from mia_core.data import library
from mia_core.data.interactions import Interactions, validate
from mia_core.data.synthetic import generate
from mia_core.data_rights.erasing import erase, explain_erased, explain_plan, plan_erasing
from mia_core.data_rights.pseudonyms import pseudonymise
from mia_core.data_rights.searching import Wanted, is_telling, search, search_file
from mia_core.errors import ConfigError, NotFound, StoreError
from mia_core.experiment import Runtime, Synthetic, parse_experiment
from mia_core.jobs.queue import Queue, compact
from mia_core.pipeline import run_audit
from mia_core.report.forgetting import ForgettingResult
from mia_core.report.lookup import lookup_user
from mia_core.report.results import AuditResult, read_result, read_table
from mia_core.storage import journal
from mia_core.storage.store import OWNERS, Store
from mia_core.studies.forgetting import Forgetting, parse_forgetting
from mia_core.studies.lookup import lookup_history
from mia_core.studies.study import Study, parse_study, run_study
from mia_core.types import Role, Silent

QUICK = {"epochs": 1, "learning_rate": 5e-3}


def world(seed: int) -> Interactions:
    """Invented users, each with an id and an item of their own that are found in no file by accident."""
    made = generate(Synthetic(users=60, items=40, mean_history=14, tastes=3), seed)
    frame = made.frame.with_columns(user=pl.format("person-{}-of{}", pl.col("user"), pl.lit(seed)))
    own = frame.group_by("user").agg(pl.col("timestamp").max() + 60, pl.col("rating").max())
    own = own.with_columns(item=pl.format("item of {}", pl.col("user").str.reverse()))
    titles = own.select("item", title=pl.format("Keepsake {}", pl.col("item")))
    return validate(pl.concat([frame, own.select(frame.columns)]), pl.concat([made.items, titles]))


def experiment(key: str, name: str) -> Any:
    return parse_experiment(
        {
            "name": name,
            "data": {"source": "data-set", "key": key},
            "prompt": {"history": 3, "windows": 2},
            "base": {"width": 16, "layers": 2, "vocabulary": 300, "pretraining": QUICK},
            "target": {"training": QUICK},
            "distillation": {
                "phase_one": QUICK,
                "phase_two": QUICK,
                "soft_windows": 2,
                "soft_training": QUICK,
                "soft_references": 1,
            },
            "attacks": {"names": ["loss", "lira_offline", "distillation"], "lead": "distillation", "shadows": 2},
            "evaluation": {"resamples": 100, "ranked_users": 4, "negatives": 5, "placebo": False, "map_users": 0},
        }
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A home with two data sets and an audit of each, and what else there may be; the keys of the audits."""
    home = tmp_path_factory.mktemp("made") / "home"
    store = Store(home)
    keys = [library.save(store, world(seed), f"World {seed}") for seed in (1, 2)]
    # The other audit is there to stay as it is: a single attack will do.
    wanted = [experiment(key, f"Audit {i}") for i, key in enumerate(keys, 1)]
    simple = wanted[1].attacks.model_copy(update={"names": ("loss",), "lead": "loss"})
    audits = [run_audit(one, store) for one in (wanted[0], wanted[1].model_copy(update={"attacks": simple}))]
    store.close()
    return home, audits[0].key, audits[1].key


@pytest.fixture
def store(made: tuple[Path, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A copy of that home."""
    # It may be called anything; this is no pattern, and no address.
    home = shutil.copytree(made[0], tmp_path / "a[b]*c?d=1")
    monkeypatch.setenv("MIA_HOME", str(home))
    return Store(home)


def someone(store: Store, audit: str, role: Role) -> str:
    folder = store.find(audit)
    assert folder is not None
    return str(read_table(folder, "users").filter(pl.col("role") == role)["user"][0])


def texts_in(home: Path) -> str:
    """Everything in a home folder as one text, read here without the program's own search."""
    found: list[str] = []
    for path in sorted(path for path in home.rglob("*") if path.is_file()):
        found.append(path.read_bytes().decode("utf-8", errors="replace"))
        if path.suffix == ".parquet":
            found.append(parquet.read(path).write_csv())
        elif path.suffix == ".npy":
            found.append(" ".join(map(str, np.load(path).ravel()[:100])))
        elif path.suffix in (".sqlite", ".db"):
            found += sqlite3.connect(path).iterdump()
    return "\n".join(found)


def history_of(store: Store, audit: str, user: str) -> list[str]:
    folder = store.find(read_result(store.find(audit)).data["key"])  # type: ignore[arg-type]
    assert folder is not None
    whole = Interactions.read(folder)
    return (
        whole.frame.filter(pl.col("user") == user)
        .join(whole.items, on="item", maintain_order="left")["title"]
        .to_list()
    )


def scatter(store: Store, audit: str, user: str) -> None:
    """Leaves the person where else they may be: jobs, answers, uploads, lists, logs."""
    queue = Queue(store.home)
    queue.submit("without", "Without each interaction", {"audit": audit, "user": user})
    queue.submit("forget", f"Forget {user}", {"forgetting": {"forget": [user, "person-x"]}})
    queue.submit("audit", "Something else", {"experiment": {}})
    while (job := queue.claim()) is not None:
        queue.finish(job.id, "")
    answer = {"subject": user, "rows": [{"item": title} for title in history_of(store, audit, user)]}
    store.build("ab" * 32, "without", lambda folder: (folder / "without.json").write_text(json.dumps(answer)) and None)
    for name, text in {
        "uploads/" + "0" * 32 + "/raw.csv": f"user,item\n{user},7\n",
        "lists/members-1.txt": f"person-x\n{user}\nperson-y\n",
        "logs/job.log": f"before\nsomething about {user} failed\nafter\n",
        "scratch/" + "cd" * 32 + "/state.bin": f"..{user}..",
    }.items():
        path = store.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize("role", [Role.AUDITED_MEMBER, Role.PUBLIC])
def test_nothing_of_the_person_is_left_in_any_file(store: Store, made: tuple[Path, str, str], role: Role) -> None:
    _, audit, other = made
    user = someone(store, audit, role)
    titles, keepsake = history_of(store, audit, user), f"Keepsake item of {user[::-1]}"
    scatter(store, audit, user)
    journal.note(store.home, "looked up", audit=audit, person=journal.person(store.home, user))
    before = journal.person(store.home, user)
    assert user in texts_in(store.home)
    assert keepsake in texts_in(store.home)
    others = {path: path.read_bytes() for path in sorted(store.find(other).rglob("*.*"))}  # type: ignore[union-attr]

    done = erase(store, user)

    left = texts_in(store.home)
    assert user not in left
    assert keepsake not in left
    assert user[::-1] not in left
    for start in range(len(titles) - 4):
        for separator in ("\n", ", ", " | ", '", "'):
            assert separator.join(titles[start : start + 5]) not in left
    assert done.searched.traces == []
    assert done.searched.by_bytes
    assert done.searched.files > 20
    # The log says what went, and not whose it was; earlier lines can no longer be tied to anybody.
    latest = journal.read(store.home)[0]
    assert (latest.what, latest.about["results"], latest.about["data sets"]) == ("erasure finished", 1, 1)
    assert journal.person(store.home, user) != before
    assert journal.verify(store.home).intact
    # Lists and logs keep their other lines, the job list its other jobs.
    assert (store.home / "lists" / "members-1.txt").read_text() == "person-x\nperson-y\n"
    assert (store.home / "logs" / "job.log").read_text() == "before\nafter\n"
    assert [job.name for job in Queue(store.home).jobs()] == ["Something else"]
    # The other audit is as it was, with its models and data.
    assert {path: path.read_bytes() for path in others} == others
    titles_there = history_of(store, other, someone(store, other, Role.AUDITED_MEMBER))
    assert lookup_history(other, titles_there, store, Silent(), runtime()).score is not None


def runtime() -> Any:
    from mia_core.experiment import Runtime

    return Runtime(device="cpu", threads=1)


def test_a_kept_audit_says_that_somebody_is_missing_and_gives_everybody_else_the_same_answer(
    store: Store, made: tuple[Path, str, str]
) -> None:
    audit = made[1]
    users = [someone(store, audit, role) for role in (Role.AUDITED_MEMBER, Role.KNOWN_HELD_OUT)]
    before = lookup_user(store, audit, someone(store, audit, Role.AUDITED_HELD_OUT))
    keys = audit
    for number, user in enumerate(users, 1):
        done = erase(store, user)
        assert store.find(keys) is None
        keys = done.kept[keys]
        folder = store.find(keys)
        assert folder is not None
        result = read_result(folder)
        assert (result.key, result.erased) == (keys, number)
        assert sum("erased after this was computed" in note for note in result.notes) == 1
        with pytest.raises(NotFound):
            lookup_user(store, keys, user)
    after = lookup_user(store, keys, before.subject)
    assert (after.score, after.p_value) == (before.score, before.p_value)


def test_models_are_named_by_what_they_learned(store: Store, made: tuple[Path, str, str]) -> None:
    audit = made[1]
    learned = {}
    for role in (Role.PUBLIC, Role.AUDITED_MEMBER, Role.AUDITED_HELD_OUT):
        plan = plan_erasing(store, someone(store, audit, role))
        assert {model.audit for model in plan.models} == {audit}
        learned[role] = {model.name: model.learned for model in plan.models}
    assert learned[Role.PUBLIC]["base"] == learned[Role.PUBLIC]["soft 0"] == "trained on this person"
    assert learned[Role.PUBLIC]["target"] == "beside such models"
    assert learned[Role.AUDITED_MEMBER]["target"] == "trained on this person"
    assert learned[Role.AUDITED_MEMBER]["soft 0"] == "taught by a model that was"
    assert learned[Role.AUDITED_HELD_OUT]["target"] == "beside such models"
    assert learned[Role.AUDITED_HELD_OUT]["shadow 0"] == "trained on this person"


@pytest.mark.slow
def test_models_are_trained_anew_without_the_person(store: Store, made: tuple[Path, str, str]) -> None:
    audit = made[1]
    user = someone(store, audit, Role.AUDITED_MEMBER)
    folders = [store.find(model.key) for model in plan_erasing(store, user).models]
    done = erase(store, user, models="retrain")
    assert not any(folder.exists() for folder in folders if folder is not None)
    (job,) = (Queue(store.home).get(job_id) for job_id in done.queued)
    settings = parse_experiment(job.payload["experiment"])
    left = library.load_saved(store, settings.data.key)
    assert user not in left.frame["user"]
    assert left.frame["user"].n_unique() == 59
    again = run_audit(settings, store)
    assert (again.data["users"], again.erased) == (59, 0)
    assert search(store.home, Wanted(frozenset({user}))).traces == []


def check_of_forgetting(store: Store, key: str, data: str, *forgotten: str) -> None:
    """A finished check, as it lies in the store."""
    config = Forgetting(name=f"Check {key[0]}", experiment=experiment(data, "Told to forget"), forget=forgotten)
    result = ForgettingResult(
        key=key,
        name=config.name,
        created="2026-01-01T00:00:00+00:00",
        config=config.model_dump(mode="json"),
        data={"key": data},
        members=20,
        forgotten=len(forgotten),
        seeds=config.seeds,
        margin=config.margin,
        alpha=config.alpha,
        outcomes=[],
        device="cpu",
        artifacts=[],
    )
    scores = pl.DataFrame({"user": forgotten})
    store.build(key, "forgetting", lambda folder: result.write(folder, scores), name=config.name, keep=True)


def test_studies_and_checks_are_run_anew_without_the_person(store: Store, made: tuple[Path, str, str]) -> None:
    user, other = (someone(store, made[1], role) for role in (Role.AUDITED_MEMBER, Role.KNOWN_MEMBER))
    settings = parse_experiment(read_result(store.find(made[1])).config)  # type: ignore[arg-type]
    varied = Study(name="Resampling", experiment=settings, vary={"evaluation.resamples": (100, 101)})
    run_study(varied, store, runtime=Runtime(device="cpu", threads=1))
    check_of_forgetting(store, "c" * 64, settings.data.key, user, other)
    check_of_forgetting(store, "d" * 64, settings.data.key, user)
    done = erase(store, user, models="retrain")
    jobs = {job.kind: job for job in map(Queue(store.home).get, done.queued)}
    assert set(jobs) == {"audit", "study", "forget"}
    again = parse_study(jobs["study"].payload["study"])
    assert (again.name, again.vary) == ("Resampling", varied.vary)
    assert user not in library.load_saved(store, again.experiment.data.key).frame["user"]
    asked = parse_forgetting(jobs["forget"].payload["forgetting"])
    assert (asked.name, asked.forget) == ("Check c", (other,))
    assert asked.experiment.data.key == again.experiment.data.key
    # Of whom alone it was asked, nobody is left to ask about.
    assert [entry.name for entry in done.not_retrained] == ["Check d"]
    said = " ".join(explain_erased(done))
    assert "Queued anew" in said
    assert "1 study ('Resampling')" in said
    assert user not in said


def test_an_odd_setting_is_refused_before_anything_is_erased(
    store: Store, made: tuple[Path, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    user, before = someone(store, made[1], Role.AUDITED_MEMBER), [entry.key for entry in store.entries()]
    monkeypatch.setenv("MIA_MOST_JOBS", "x")
    with pytest.raises(ConfigError, match="MIA_MOST_JOBS is 'x'"):
        erase(store, user, models="retrain")
    assert sorted(entry.key for entry in store.entries()) == sorted(before)


def test_audits_can_go_altogether(store: Store, made: tuple[Path, str, str]) -> None:
    user = someone(store, made[1], Role.AUDITED_MEMBER)
    done = erase(store, user, audits="delete")
    assert done.kept == {}
    assert [entry.key for entry in store.entries("audit")] == [made[2]]


def test_nothing_is_erased_while_something_runs_or_for_somebody_unknown(
    store: Store, made: tuple[Path, str, str]
) -> None:
    user = someone(store, made[1], Role.AUDITED_MEMBER)
    with pytest.raises(NotFound, match="exactly"):
        erase(store, user + "0")
    with pytest.raises(ConfigError, match="empty"):
        plan_erasing(store, " ")
    job = Queue(store.home).submit("audit", "Waits", {})
    with pytest.raises(ConfigError, match="running or waiting"):
        erase(store, user)
    Queue(store.home).cancel(job.id)
    assert plan_erasing(store, user).counts()["results"] == 1


def small(home: Path, *users: str) -> Store:
    """A home with a data set alone, in which everybody has five items."""
    store = Store(home)
    rows = [(user, item) for user in users for item in "abcde"]
    library.save(store, validate(pl.DataFrame(rows, schema=["user", "item"], orient="row")), "Small")
    return store


def test_a_trace_that_remains_fails_loudly(tmp_path: Path) -> None:
    user = "person-0000-odd"
    store = small(tmp_path, user, "other")
    (tmp_path / "stray.bin").write_bytes(b"\0" * 5_000_000 + user.encode())
    with pytest.raises(StoreError, match=r"1 traces.*stray\.bin"):
        erase(store, user)
    latest = journal.read(store.home)[0]
    assert latest.about["traces"] == 1
    assert user not in (store.home / journal.LINES).read_text()


def deeply_nested() -> bytes:
    return b'{"a":' * 100_000


def long_line() -> bytes:
    return b"user,item " * 2**19


def table_of_lists() -> bytes:
    stream = io.BytesIO()
    pl.DataFrame({"user": [["7"], ["8"]]}).write_parquet(stream)
    return stream.getvalue()


def archive() -> bytes:
    return gzip.compress(b"user,item\nperson-0000-odd,a\n")


@pytest.mark.parametrize(
    ("name", "make", "hides"),
    [
        # What is plain text shows an id that tells among its bytes; what is packed does not.
        ("films.json", deeply_nested, False),
        ("films.csv", long_line, False),
        ("films.jsonl", long_line, False),
        ("films.parquet", table_of_lists, True),
        ("films.csv", archive, True),
    ],
)
def test_an_upload_that_cannot_be_searched_stops_nobodys_erasure_and_is_not_taken_for_clean(
    tmp_path: Path, name: str, make: Callable[[], bytes], hides: bool
) -> None:
    path = tmp_path / "uploads" / ("0" * 32) / name
    for user in ("person-0000-odd", "7"):
        store = small(tmp_path, user, "other")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make())
        gone = hides or user == "7"
        said = " ".join(explain_plan(plan_erasing(store, user)))
        assert ("cannot be searched" in said) == gone
        assert erase(store, user).searched.traces == []
        assert path.exists() != gone
    # Where it is there for all to see, it goes in any case.
    path.write_bytes(make() + b" person-0000-odd ")
    store = small(tmp_path, "person-0000-odd", "other")
    erase(store, "person-0000-odd")
    assert not path.exists()


def test_a_table_that_unpacks_to_much_more_is_searched_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "films.parquet"
    places = pyarrow.array(np.append(np.ones(400_000, dtype=np.int8), 0))
    users = pyarrow.DictionaryArray.from_arrays(places, ["7", "x" * 1_000])
    # Nothing says any more that a text is there but once.
    pyarrow.parquet.write_table(pyarrow.table({"user": users}), path, store_schema=False)
    assert path.stat().st_size < 50_000
    usual, pool = pyarrow.default_memory_pool(), pyarrow.proxy_memory_pool(pyarrow.default_memory_pool())
    pyarrow.set_memory_pool(pool)
    try:
        searched = search_file(path, Wanted(frozenset({"7"})), handed_in=True)
    finally:
        pyarrow.set_memory_pool(usual)
    assert [what for _, what in searched.traces] == ["the id, in column user"]
    assert 0 < pool.max_memory() < 50 * 2**20


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("films.csv", "customer;film\n7;a\n".encode("utf-16")),
        ("films.csv", "customer;film\nÉ7;a\n".encode("latin-1")),
        ("films.json", b'[{"reviewerID": 7, "asin": "a"}]'),
        ("films.json", b'{"reviewerID": "8", "asin": "a"}\n{"reviewerID": "7", "asin": "a"}\n'),
        ("films.txt", b'{"reviewerID": 7.0, "asin": "a"}\n'),
    ],
    ids=["utf-16", "latin-1", "numbers", "json lines", "json called text"],
)
def test_a_short_id_is_found_in_uploads_of_every_kind(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    user = "É7" if b"\xc9" in content else "7"
    assert search_file(path, Wanted(frozenset({user})), handed_in=True).traces
    assert not search_file(path, Wanted(frozenset({"9"})), handed_in=True).traces


@pytest.mark.parametrize(
    "column", [pl.Series([8, 7]), pl.Series([8.0, 7.0]), pl.Series(["8", "7"], dtype=pl.Categorical)]
)
def test_a_short_id_is_found_in_tables_of_every_kind(tmp_path: Path, column: pl.Series) -> None:
    path = tmp_path / "films.parquet"
    column.to_frame("customer").write_parquet(path)
    assert search_file(path, Wanted(frozenset({"7"})), handed_in=True).traces
    assert not search_file(path, Wanted(frozenset({"9"})), handed_in=True).traces


def test_a_history_is_found_across_the_pieces_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "interactions.parquet"
    rows = pl.DataFrame({"item": [*"vwxyz", *"abcde", *"vwxyz"]})
    rows.write_parquet(path, row_group_size=7)
    assert search_file(path, Wanted(frozenset({"7"}), (tuple("abcde"),))).traces
    assert not search_file(path, Wanted(frozenset({"7"}), (tuple("abced"),))).traces


def test_uploads_go_whole_and_lists_keep_their_other_lines_byte_for_byte(tmp_path: Path) -> None:
    user = "person-0000-odd"
    store = small(tmp_path, user, "other")
    upload = tmp_path / "uploads" / ("0" * 32) / "films.csv"
    plain, export = tmp_path / "lists" / "members-1.txt", tmp_path / "lists" / "members-2.txt"
    for path in (upload, plain):
        path.parent.mkdir(parents=True)
    upload.write_bytes(f"user,item\n{user},a\nother,b\n".encode("utf-16"))
    plain.write_bytes(f"caf\xe9\r\n{user}\r\nother\x85x\r\n".encode("latin-1"))
    export.write_bytes(f"{user}\nother\n".encode("utf-16"))
    assert erase(store, user).searched.traces == []
    assert (upload.exists(), export.exists()) == (False, False)
    assert plain.read_bytes() == b"caf\xe9\r\nother\x85x\r\n"
    assert list(plain.parent.iterdir()) == [plain]


@pytest.fixture(autouse=True)
def supervised(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The homes for which a supervisor was wanted; none is started."""
    homes: list[Path] = []
    monkeypatch.setattr("mia_core.data_rights.erasing.ensure_supervisor", homes.append)
    return homes


def test_what_may_not_wait_any_more_is_named_and_the_rest_is_queued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, supervised: list[Path]
) -> None:
    user, store = "person-0000-odd", small(tmp_path, "person-0000-odd", "other")
    data = library.saved(store)[0].key
    for letter in "cd":
        check_of_forgetting(store, letter * 64, data, user, "other")
    monkeypatch.setenv("MIA_MOST_JOBS", "1")
    done = erase(store, user, models="retrain")
    (queued,), (left_out,) = done.queued.values(), done.not_retrained
    assert {queued.key[0], left_out.key[0]} == {"c", "d"}
    assert [job.id for job in Queue(store.home).active()] == list(done.queued)
    assert supervised == [store.home]
    said = next(line for line in explain_erased(done) if line.startswith("Not run anew"))
    assert "no more jobs may wait" in said
    assert f"1 check of forgetting ('{left_out.name}')" in said


def test_a_trace_that_remains_does_not_keep_what_is_run_anew_from_beginning(
    tmp_path: Path, supervised: list[Path]
) -> None:
    user, store = "person-0000-odd", small(tmp_path, "person-0000-odd", "other")
    check_of_forgetting(store, "c" * 64, library.saved(store)[0].key, user, "other")
    (tmp_path / "stray.bin").write_bytes(user.encode())
    with pytest.raises(StoreError, match=r"1 traces.*computed anew is queued"):
        erase(store, user, models="retrain")
    assert [job.kind for job in Queue(store.home).active()] == ["forget"]
    assert supervised == [store.home]


@pytest.mark.parametrize("user", ["иван_1", "東京-a", "ид😀", "пользователь 12", "Müller-7", "ana-4821"])
def test_an_id_in_any_letters_is_found_where_it_is_and_nowhere_else(user: str, tmp_path: Path) -> None:
    wanted, path = Wanted(frozenset({user})), tmp_path / "bytes.bin"
    # What is left of these ids where their letters are left out.
    path.write_bytes(bytes(range(256)) + " _1 -a 12 mller-7 ü-7 \U0001f600".encode())
    assert is_telling(user)
    assert search_file(path, wanted).traces == []
    for way in ("utf-8", "utf-16-le", "utf-16-be", *(["cp1252"] if user.isascii() or "ü" in user else [])):
        path.write_bytes(b"\0\1" * 9 + user.encode(way) + b"\0\1" * 9)
        assert len(search_file(path, wanted).traces) == 1, way
    path.write_bytes(json.dumps(["x", user, "y"]).encode())
    assert len(search_file(path, wanted).traces) == 1


def test_short_ids_are_looked_for_among_users_alone(tmp_path: Path) -> None:
    """The user 7 and the item 7 are two things."""
    store = Store(tmp_path)
    frame = pl.DataFrame({"user": ["7"] * 6 + ["8"] * 6, "item": list("123457") + list("765421")})
    key = library.save(store, validate(frame), "Small")
    done = erase(store, "7")
    assert not done.searched.by_bytes
    left = library.load_saved(store, done.rewritten[key]).frame
    assert (set(left["user"]), "7" in left["item"]) == ({"8"}, True)
    assert not is_telling("7")
    assert is_telling("ana-4821")


def test_sessions_of_a_person_go_with_them(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user": ["42/1", "42/1", "42/2", "42/2", "420/1", "420/1"], "item": list("abcdef")})
    store = Store(tmp_path)
    whole = dataclasses.replace(validate(frame), unit="session")
    key = library.save(store, whole, "Visits")
    done = erase(store, "42")
    assert set(library.load_saved(store, done.rewritten[key]).frame["user"]) == {"420/1"}


def test_the_command_shows_the_log_and_whether_it_is_intact(store: Store, made: tuple[Path, str, str]) -> None:
    user = someone(store, made[1], Role.AUDITED_MEMBER)
    assert command("lookup", made[1], user).exit_code == 0
    shown = command("log")
    assert "looked up" in shown.output
    assert user not in shown.output
    intact = command("log", "--verify")
    assert intact.exit_code == 0
    mark = intact.output.split("Mark: ")[1].split()[0]
    assert command("log", "--verify", "--noted", mark).exit_code == 0
    path = store.home / journal.LINES
    path.write_bytes(path.read_bytes().replace(b"looked up", b"looked at"))
    broken = command("log", "--verify")
    assert broken.exit_code != 0
    assert "line 1 was changed" in str(broken.exception)


def test_other_peoples_homes_are_left_alone_and_said(tmp_path: Path) -> None:
    user = "person-0000-odd"
    store = small(tmp_path, user, "other")
    theirs = store.home / OWNERS / ("a" * 32) / "note.txt"
    theirs.parent.mkdir(parents=True)
    theirs.write_text(user)
    done = erase(store, user)
    assert done.searched.elsewhere == 1
    assert theirs.read_text() == user


def command(*arguments: str) -> Any:
    return CliRunner().invoke(application, list(arguments))


def test_the_command_lists_asks_and_erases(store: Store, made: tuple[Path, str, str]) -> None:
    user = someone(store, made[1], Role.AUDITED_MEMBER)
    listed = command("erase", "--user", user, "--dry-run")
    assert listed.exit_code == 0
    assert "target" in listed.output
    assert "trained on this person" in listed.output
    assert user in texts_in(store.home)
    refused = CliRunner().invoke(application, ["erase", "--user", user], input="n\n")
    assert refused.exit_code != 0
    assert user in texts_in(store.home)
    done = command("erase", "--user", user, "--yes")
    assert done.exit_code == 0, done.output
    assert "No trace" in done.output
    assert user not in texts_in(store.home)


def test_results_of_other_kinds_lose_the_person_too(
    store: Store, made: tuple[Path, str, str], save_other_kinds: Callable[[str, str], dict[str, str]]
) -> None:
    audit = made[1]
    user = someone(store, audit, Role.AUDITED_MEMBER)
    keys = save_other_kinds(audit, user)
    done = erase(store, user)
    study, defenses, forgetting = (store.find(done.kept[keys[kind]]) for kind in ("study", "defenses", "forgetting"))
    assert study is not None
    assert defenses is not None
    assert forgetting is not None
    # They lead to the audit as it is now.
    assert parquet.read(study / "figures.parquet")["audit"].to_list() == [done.kept[audit]]
    assert json.loads((defenses / "defenses.json").read_text())["tried"][0]["audits"] == [done.kept[audit]]
    checked = json.loads((forgetting / "forgetting.json").read_text())
    assert (checked["config"]["forget"], checked["erased"]) == (["person-x"], 1)
    assert parquet.read(forgetting / "scores.parquet")["user"].to_list() == ["person-x"]


@pytest.fixture
def save_other_kinds(store: Store) -> Callable[[str, str], dict[str, str]]:
    def save(audit: str, user: str) -> dict[str, str]:
        data = read_result(store.find(audit)).data["key"]  # type: ignore[arg-type]
        documents = {
            "study": {"config": {"experiment": {"data": {}}}, "name": "Study"},
            "defenses": {"config": {"experiment": {"data": {}}}, "data": [data], "tried": [{"audits": [audit]}]},
            "forgetting": {"config": {"forget": [user, "person-x"], "experiment": {}}, "data": {"key": data}},
        }
        tables = {
            "study": ("figures", pl.DataFrame({"audit": [audit], "value": [0.5]})),
            "defenses": ("figures", pl.DataFrame({"value": [0.5]})),
            "forgetting": ("scores", pl.DataFrame({"user": [user, "person-x"], "score": [1.0, 2.0]})),
        }
        keys = {kind: f"{i}f" * 32 for i, kind in enumerate(documents)}
        for kind, key in keys.items():

            def write(folder: Path, kind: str = kind) -> None:
                (folder / f"{kind}.json").write_text(json.dumps(documents[kind]))
                name, table = tables[kind]
                table.write_parquet(folder / f"{name}.parquet")

            store.build(key, kind, write, name=kind, keep=True)
        return keys

    return save


@pytest.mark.parametrize("pseudonyms", [False, True])
def test_sessions_are_found_in_a_result_whose_data_are_gone(
    tmp_path: Path, make_result: Callable[..., AuditResult], users_table: pl.DataFrame, pseudonyms: bool
) -> None:
    result = make_result(data={**make_result().data, "unit": "session"})
    users = users_table.with_columns(user=pl.format("{}/1", pl.int_range(pl.len())))
    store = Store(tmp_path)
    store.build(result.key, "audit", lambda folder: result.write(folder, {"users": users}), keep=True)
    key = pseudonymise(store, result.key).key if pseudonyms else result.key
    kept = store.find(erase(store, "42").kept[key])
    assert kept is not None
    assert read_table(kept, "users").height == users.height - 1


def test_a_result_without_its_data_is_found_by_its_tables(saved_alone: tuple[Store, AuditResult]) -> None:
    store, result = saved_alone
    done = erase(store, "Zoë 🎬")
    assert list(done.kept) == [result.key]
    assert "Zoë" not in texts_in(store.home)


@pytest.fixture
def saved_alone(
    tmp_path: Path, make_result: Callable[..., AuditResult], users_table: pl.DataFrame
) -> tuple[Store, AuditResult]:
    store, result = Store(tmp_path / "alone"), make_result()
    store.build(result.key, "audit", lambda folder: result.write(folder, {"users": users_table}), keep=True)
    return store, result


@pytest.mark.parametrize("name", ["home", "a[b]*c?d=1", "50%41#"])
def test_the_list_of_jobs_is_searched_and_made_compact_whatever_the_home_is_called(tmp_path: Path, name: str) -> None:
    queue = Queue(tmp_path / name)
    job = queue.submit("audit", "Audit", {"user": "person-x"})
    assert search(queue.path.parent, Wanted(frozenset({"person-x"}))).traces
    queue.cancelled(job.id)
    queue.remove_where(lambda _: True)
    compact(queue.path)
    assert b"person-x" not in queue.path.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [name]
