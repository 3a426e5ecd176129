"""Everything that was derived from one person's data goes from a home folder, and a search of the whole folder shows it.

What was computed from data with this person is deleted: models (weights cannot be edited), observations, scores, answers, jobs.
Data sets are written anew without the person. Finished results may stay, in figures alone: the person's rows are taken out, and
the result says so and gets another key, since it is no longer what its key stands for. An intermediate that no untouched result
rests on goes, too: whose it was cannot be told from it, and it can be made again.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl

from mia_core import __version__, parquet
from mia_core.data import library
from mia_core.data.interactions import Interactions
from mia_core.data_rights.removal import check_nothing_runs
from mia_core.data_rights.searching import (
    UNREAD,
    USER_FIELDS,
    Searched,
    Wanted,
    bounded_lines,
    cells_of,
    holds,
    search,
    search_file,
    strings,
    was_handed_in,
)
from mia_core.errors import ConfigError, LimitReached, NotFound, StoreError
from mia_core.experiment import Data, Runtime, Sessions
from mia_core.jobs.queue import Queue, compact
from mia_core.jobs.supervisor import ensure_supervisor
from mia_core.keys import content_key
from mia_core.limits import check_settings
from mia_core.report.finished import pseudonym
from mia_core.report.results import AUDITS, RESULTS, ROWS_TOGETHER, read_result
from mia_core.report.wording import erased_sentence, file_size
from mia_core.storage import journal
from mia_core.storage.seal import pseudonym_key
from mia_core.storage.store import Entry, Store
from mia_core.types import SESSION, Role

ANSWERS = ("lookup", "without")
STRETCH = 5
"""Items in a row that a search looks for, where nobody else has them in this order."""
MOST_SESSIONS = 10_000
"""Of one person, whose pseudonyms are looked for."""
GONE = "(erased)"
"""Stands in a name where the person's id stood."""

MOST_NAMED = 12
"""Of one kind, that a sentence calls by their names."""
WORDS = {
    "audit": ("audit", "audits"),
    "point": ("audit of a study", "audits of a study"),
    "placebo": ("placebo", "placebos"),
    "study": ("study", "studies"),
    "defenses": ("comparison of defences", "comparisons of defences"),
    "forgetting": ("check of forgetting", "checks of forgetting"),
    "data-set": ("data set", "data sets"),
    "interactions": ("copy of data", "copies of data"),
    "models": ("model", "models"),
    "intermediates": ("intermediate file", "intermediate files"),
    "jobs": ("job", "jobs"),
    "files": ("upload, list or log", "uploads, lists or logs"),
}
"""One and several of what may be there of a person."""

JOB_OF = {
    "audit": ("audit", "experiment"),
    "study": ("study", "study"),
    "defenses": ("defend", "defending"),
    "forgetting": ("forget", "forgetting"),
}
"""By kind of result: the job that computes it, and what the job is given."""

Models = Literal["delete", "retrain"]
Audits = Literal["keep", "delete"]

TRAINED_ON: Mapping[str, Callable[[Role], bool]] = {
    "base": lambda role: role is Role.PUBLIC,
    "target": lambda role: bool(role.member),
    "leaking": lambda role: role is not Role.PUBLIC,
    "shadow": lambda role: role is not Role.PUBLIC,
    "student": lambda role: role is Role.PUBLIC or role.known,
    "soft": lambda role: role is Role.PUBLIC,
    "trajectory": lambda role: role is Role.PUBLIC,
    "self-prompted": lambda role: role is Role.PUBLIC,
}
"""Whose data train a model, by the beginning of its name."""
TAUGHT_BY_TARGET = ("leaking", "student", "soft", "trajectory", "self-prompted")


@dataclass(frozen=True)
class Model:
    """A model that goes, and what it has of the person."""

    key: str
    name: str
    """What it is to its audit, such as target or shadow 3; empty in stores of earlier versions."""
    audit: str
    """Key of a result that it was made for; empty: of an audit that was never finished."""
    learned: Literal["trained on this person", "taught by a model that was", "beside such models", "not known"]


@dataclass(frozen=True)
class Plan:
    """What a home folder has of one person, and so what erasing them takes."""

    wanted: Wanted
    data: list[Entry]
    """Data sets, and copies that audits kept."""
    results: list[Entry]
    models: list[Model]
    intermediates: list[Entry]
    """Splits, observations, scores, answers: all that goes beside data, results and models."""
    jobs: int
    files: list[Path]
    """Uploads, lists and logs that name the person, or may: see `unread`."""
    unread: list[Path]
    """Of these files, uploads and lists that cannot be searched, so that nobody can say whether the person is in them."""
    outside: list[str]
    """Files and models outside of the home folder that these audits were made from: out of this program's reach."""
    exported: list[journal.Event]
    """What left the tool and may hold the person: reports, tables and letters of these audits."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing of the person."""
        return not (self.data or self.results or self.jobs or self.files)

    def counts(self) -> dict[str, int]:
        """How much of each kind."""
        return {
            "data sets": sum(entry.kind == "data-set" for entry in self.data),
            "copies of data": sum(entry.kind == "interactions" for entry in self.data),
            "results": len(self.results),
            "models": len(self.models),
            "intermediates": len(self.intermediates),
            "jobs": self.jobs,
            "files": len(self.files),
        }


@dataclass(frozen=True)
class Erased:
    """What was done."""

    plan: Plan
    kept: dict[str, str] = field(default_factory=dict)
    """Results that were kept without the person: old key, new key."""
    rewritten: dict[str, str] = field(default_factory=dict)
    """Data sets: old key, new key."""
    queued: dict[str, Entry] = field(default_factory=dict)
    """Jobs that train anew without the person, and the results that they make again."""
    not_retrained: list[Entry] = field(default_factory=list)
    """Results that could not be queued anew."""
    searched: Searched = field(default_factory=Searched)


def plan_erasing(store: Store, user: str) -> Plan:
    """What there is of a person, without touching it.

    Args:
        user: the id, exactly as in the data. Sessions that were cut from this user's history are meant, too.
    Raises:
        ConfigError: the id is empty.
    """
    if not user.strip():
        raise ConfigError("the user id is empty; give it exactly as in the data")
    # What is damaged is set aside when it is asked for, and so gone.
    everything = [
        e for e in store.entries() if e.kind not in (*RESULTS, *library.DATA) or store.find(e.key) is not None
    ]
    data = {
        entry.key: mine for entry in everything if entry.kind in library.DATA and (mine := _ids_in(entry.path, user))
    }
    results = [entry for entry in everything if entry.kind in RESULTS]
    ids = frozenset({user}.union(*data.values(), *(_ids_of_result(store, entry, user) for entry in results)))
    wanted = Wanted(ids, _telling_histories(store, everything, data))
    touched = [entry for entry in results if _rests_on(entry, set(data)) or _named_in(entry.path, wanted)]
    touched += _built_of([entry for entry in results if entry not in touched], {entry.key for entry in touched})
    intermediates = _loose(everything, {entry.key for entry in touched}, set(data)) if data or touched else []
    files = {path: said for path in _loose_files(store.home) if (said := _traces(store.home, path, wanted))}
    queue, keys = Queue(store.home), {entry.key for entry in touched}
    return Plan(
        wanted=wanted,
        data=[entry for entry in everything if entry.key in data],
        results=touched,
        models=_models([entry for entry in intermediates if entry.kind == "model"], touched, ids),
        intermediates=[entry for entry in intermediates if entry.kind != "model"],
        jobs=sum(_is_about(job, wanted, keys) for job in queue.jobs(limit=-1)),
        files=list(files),
        unread=[path for path, said in files.items() if said == [UNREAD]],
        outside=_outside(store.home, touched),
        exported=[
            event
            for event in journal.read(store.home)
            if event.what.endswith("exported") and event.about.get("audit") in keys
        ],
    )


def erase(store: Store, user: str, models: Models = "delete", audits: Audits = "keep") -> Erased:
    """Erases a person, searches the whole home folder, and has a supervisor do what is queued anew.

    Args:
        user: as for `plan_erasing`.
        models: delete: they go with all that rests on them; retrain: so they do, and each result that was computed with
            them is queued anew on the data without the person.
        audits: keep: in figures alone, without the person's rows, and marked; delete: they go.
    Raises:
        ConfigError: something is running or waiting in this home folder, or a limit is set to what is none.
        NotFound: there is nothing of this person.
        StoreError: a trace remains.
    """
    check_settings()
    check_nothing_runs(store, "could write down again what is erased", "erase")
    queue = Queue(store.home)
    plan = plan_erasing(store, user)
    if plan.empty:
        raise NotFound(" ".join(explain_plan(plan)))
    with journal.work(store.home, "erasure") as finished:
        # Read before anything goes: what is trained anew starts from the data and settings that are there now.
        anew = _to_run_anew(plan) if models == "retrain" else []
        rewritten = _rewrite_data(store, plan)
        kept = _rewrite_results(store, plan, {**rewritten}) if audits == "keep" else {}
        for entry in (*plan.results, *plan.data, *plan.intermediates):
            store.remove(entry.key)
        for model in plan.models:
            store.remove(model.key)
        keys = {entry.key for entry in plan.results}
        gone = queue.remove_where(
            lambda job: _is_about(job, plan.wanted, keys) or (job.result_key in keys and job.result_key not in kept)
        )
        queue.follow(kept)
        _clear_files(store.home, plan)
        for index in (store.home / "index").glob("cache.db"):
            compact(index)
        journal.forget_persons(store.home)
        done = Erased(plan, kept, rewritten, searched=search(store.home, plan.wanted))
        finished(
            **{kind: count for kind, count in (plan.counts() | {"jobs": gone}).items() if count},
            keys=sorted(entry.key for entry in (*plan.data, *plan.results)),
            models_erased=sorted(model.key for model in plan.models),
            kept=sorted(kept.values()),
            rewritten=sorted(rewritten.values()),
            searched_files=done.searched.files,
            traces=len(done.searched.traces),
        )
    done = _queued(store, done, anew)
    if done.searched.traces:
        places = "; ".join(f"{what} in {place}" for place, what in done.searched.traces[:10])
        queued = ", and what was to be computed anew is queued" if done.queued else ""
        raise StoreError(
            f"{len(done.searched.traces)} traces of this person remain in {str(store.home)!r}: {places}. What else there was is "
            f"erased{queued}; delete these files, or erase again once nothing else writes here"
        )
    return done


def explain_plan(plan: Plan) -> list[str]:
    """What erasing takes, in plain sentences without anybody's id."""
    if plan.empty:
        said = ["Nothing in this home folder names this person. Ids are compared exactly: case and blanks count."]
        if any(one != one.strip() for one in plan.wanted.ids):
            said.append("This id begins or ends with a blank, which reading data takes off: ask again without it.")
        return said
    said = [f"{_listed(plan, (*plan.results, *plan.data))}."]
    if plan.unread:
        said.append(
            "Uploads or lists that cannot be searched, so that nobody can say whether this person is in them, go, too: "
            f"{len(plan.unread)}."
        )
    if plan.exported:
        times = "once" if len(plan.exported) == 1 else f"{len(plan.exported)} times"
        said.append(
            f"Reports, tables or letters of these audits were taken away before, {times}; what left the tool cannot be erased "
            "here. The log says when each was."
        )
    said += [f"Outside of the home folder, and so left alone: {path}" for path in plan.outside]
    return said


def explain_erased(done: Erased) -> list[str]:
    """What was done, in plain sentences without anybody's id."""
    plan, searched = done.plan, done.searched
    rewritten = [entry for entry in plan.data if entry.key in done.rewritten]
    kept = [entry for entry in plan.results if entry.key in done.kept]
    gone = [entry for entry in (*plan.results, *plan.data) if entry not in (*rewritten, *kept)]
    parts = {
        "Erased": _listed(plan, gone),
        "Rewritten without the person, under a new key": _named(plan, rewritten),
        "Rewritten in figures alone, without the person's rows, marked, and under a new key": _named(plan, kept),
    }
    said = [f"{what}: {which}." for what, which in parts.items() if which]
    how = (
        "cell by cell and byte by byte"
        if searched.by_bytes
        else "cell by cell (the id is too short to tell by its bytes)"
    )
    said.append(
        f"No trace is left: {searched.files:,} files, {file_size(searched.bytes)} and {searched.cells:,} cells were "
        f"searched {how} for the id, its pseudonyms and {searched.histories} telling stretches of the history."
    )
    if searched.elsewhere:
        said.append(
            f"The homes of people who sign in here were not looked into, {searched.elsewhere} in all: set MIA_HOME to one of "
            "them to erase there, too."
        )
    if done.queued:
        said.append(f"Queued anew, on the data without the person: {_named(plan, list(done.queued.values()))}.")
    if done.not_retrained:
        said.append(
            "Not run anew, since their model was brought along, their data are gone or were not one set, nobody is left whom "
            "they asked about, or no more jobs may wait or nothing more be kept here (launch these by hand when there is room): "
            f"{_named(plan, done.not_retrained)}."
        )
    return [*said, *(f"Outside of the home folder, and so left alone: {path}" for path in plan.outside)]


def _listed(plan: Plan, entries: Sequence[Entry]) -> str:
    """Results and data, and what goes with them in any case."""
    beside = {kind: count for kind, count in plan.counts().items() if kind in WORDS}
    return "; ".join(filter(None, (_named(plan, entries), *(_several(*one) for one in beside.items()))))


def _named(plan: Plan, entries: Sequence[Entry]) -> str:
    """Results and data by kind; what somebody gave a name is called by it."""
    by_kind = {kind: [entry for entry in entries if entry.kind == kind] for kind in WORDS}
    return "; ".join(
        _several(kind, len(mine), [_renamed(entry.name, plan.wanted) for entry in mine if kind != "interactions"])
        for kind, mine in by_kind.items()
        if mine
    )


def _several(kind: str, count: int, names: Sequence[str] = ()) -> str:
    """How many, and what they are called; empty if none."""
    told = [f"'{name}'" for name in names[:MOST_NAMED] if name]
    told += [f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    called = f" ({', '.join(told)})" if told else ""
    return f"{count} {WORDS[kind][count > 1]}{called}" if count else ""


# What there is


def _ids_in(folder: Path, user: str) -> list[str]:
    """The ids under which a data set has a person: their own, and those of sessions that were cut from their history."""
    unit = folder / "unit.txt"
    sessions = unit.is_file() and unit.read_text(encoding="utf-8") == "session"
    return _ids_in_table(folder / "interactions.parquet", user, sessions)


def _ids_in_table(path: Path, user: str, sessions: bool) -> list[str]:
    named = pl.col("user") == user
    if sessions:
        named |= pl.col("user").str.contains(f"^{re.escape(user)}/[0-9]+$")
    users = parquet.scan(path).select(pl.col("user").unique())
    return sorted(users.filter(named).collect(engine="streaming")["user"])


def _ids_of_result(store: Store, entry: Entry, user: str) -> list[str]:
    """The ids or pseudonyms under which a result has a person; its data may be gone long since."""
    if entry.kind == "forgetting":
        sessions = _document(entry).get("judged") == "session"
        return _ids_in_table(entry.path / "scores.parquet", user, sessions)
    if entry.kind not in AUDITS:
        return []
    result, path = read_result(entry.path), entry.path / "users.parquet"
    sessions = result.unit is SESSION
    if not result.pseudonyms_of:
        return _ids_in_table(path, user, sessions)
    secret = pseudonym_key(store.home)
    # Sessions of a person are counted from 1.
    mine = [user, *(f"{user}/{i}" for i in range(1, MOST_SESSIONS) if sessions)]
    names = [pseudonym(secret, result.pseudonyms_of, one) for one in mine]
    rows = parquet.scan(path).filter(pl.col("user").is_in(names)).select("user").collect()
    return list(rows["user"])


def _telling_histories(
    store: Store, everything: Sequence[Entry], data: Mapping[str, Sequence[str]]
) -> tuple[tuple[str, ...], ...]:
    """The first and last items of the person's histories, by id and by title, where nobody else has them in this order."""
    found: set[tuple[str, ...]] = set()
    for key, ids in data.items():
        whole = Interactions.read(next(entry.path for entry in everything if entry.key == key))
        for user in ids:
            mine = whole.rows.filter(pl.col("user") == user).select("item").collect()
            named = mine.join(whole.items, on="item", how="left", maintain_order="left")
            for history in (named["item"].to_list(), named["title"].to_list()):
                if len(history) >= STRETCH:
                    found |= {tuple(history[:STRETCH]), tuple(history[-STRETCH:])}
    for entry in everything:
        if entry.kind not in library.DATA or not found:
            continue
        whole = Interactions.read(entry.path)
        # The order of a catalogue is nobody's history.
        found = _in_none_of(whole.items, found)
        for part in whole.parts():
            others = part.filter(~pl.col("user").is_in(data.get(entry.key, []))).select("item")
            found = _in_none_of(others.join(whole.items, on="item", how="left", maintain_order="left"), found)
    return tuple(sorted(found))


def _in_none_of(table: pl.DataFrame, stretches: set[tuple[str, ...]]) -> set[tuple[str, ...]]:
    return {one for one in stretches if not holds(table["item"], one) and not holds(table["title"], one)}


def _rests_on(entry: Entry, data: set[str]) -> bool:
    """Whether a result was computed from some of these data."""
    document = _document(entry)
    if entry.kind == "study":
        return document["config"]["experiment"]["data"].get("key") in data
    if entry.kind == "defenses":
        return bool(data & set(document["data"]))
    return document["data"].get("key") in data or document["config"].get("data", {}).get("key") in data


def _built_of(results: Sequence[Entry], touched: set[str]) -> list[Entry]:
    """Studies and comparisons of audits that are touched."""
    found = []
    for entry in results:
        if entry.kind == "study":
            audits = set(parquet.read(entry.path / "figures.parquet", columns=["audit"])["audit"])
        elif entry.kind == "defenses":
            audits = {audit for tried in _document(entry)["tried"] for audit in tried["audits"]}
        else:
            continue
        found += [entry] if audits & touched else []
    return found


def _named_in(folder: Path, wanted: Wanted) -> bool:
    return any(search_file(path, wanted).traces for path in sorted(folder.rglob("*")) if path.is_file())


def _loose(everything: Sequence[Entry], touched: set[str], data: set[str]) -> list[Entry]:
    """What no result rests on but those that are touched."""
    others = [entry for entry in everything if entry.kind in (*AUDITS, "forgetting") and entry.key not in touched]
    needed = {key for entry in others for key in _document(entry).get("artifacts", [])}
    return [
        entry
        for entry in everything
        if entry.kind not in RESULTS and entry.kind != "data-set" and entry.key not in needed and entry.key not in data
    ]


def _models(models: Sequence[Entry], touched: Sequence[Entry], ids: frozenset[str]) -> list[Model]:
    """The models that go, with what each has of the person."""
    made_for = {key: entry for entry in touched for key in _document(entry).get("artifacts", [])}
    found = []
    for model in models:
        result = made_for.get(model.key)
        roles = _roles(result, ids) if result is not None else set()
        found.append(Model(model.key, model.name, result.key if result else "", _learned(model.name, roles)))
    return sorted(found, key=lambda model: (model.audit, model.name, model.key))


def _roles(result: Entry, ids: frozenset[str]) -> set[Role]:
    path = result.path / "users.parquet"
    if not path.is_file():
        return set()
    rows = parquet.scan(path).filter(pl.col("user").is_in(list(ids))).select("role").collect()
    return {Role(role) for role in rows["role"]}


def _learned(
    name: str, roles: set[Role]
) -> Literal["trained on this person", "taught by a model that was", "beside such models", "not known"]:
    kind = next((kind for kind in TRAINED_ON if name.startswith(kind)), "")
    if not kind or not roles:
        return "not known"
    if any(TRAINED_ON[kind](role) for role in roles):
        return "trained on this person"
    if any(role.member for role in roles) and kind in TAUGHT_BY_TARGET:
        return "taught by a model that was"
    return "beside such models"


def _is_about(job: Any, wanted: Wanted, results: set[str]) -> bool:
    """Whether a job names the person, or asked one of these results about somebody."""
    if job.kind in ANSWERS and job.payload.get("audit") in results:
        return True
    texts = json.dumps([job.name, job.message, job.payload, job.figures, job.stages], ensure_ascii=False)
    return any(wanted.names(text, name in USER_FIELDS) for name, text in strings(job.payload)) or any(
        one in texts for one in wanted.telling
    )


def _loose_files(home: Path) -> list[Path]:
    """Files that are no artifacts: uploads, lists that were handed in, logs, and what stood behind the end of the log."""
    found = [path for folder in ("uploads", "lists", "logs", "damaged") for path in (home / folder).rglob("*")]
    return sorted(path for path in (*found, *home.glob("*.log"), home / journal.ASIDE) if path.is_file())


def _outside(home: Path, results: Sequence[Entry]) -> list[str]:
    """Paths outside of the home folder that these results were made from."""
    found: set[str] = set()
    for entry in results:
        config = _document(entry)["config"]
        config = config.get("experiment", config)
        paths = [config.get("data", {}).get("path", "")]
        paths += [config.get("target", {}).get(name, "") for name in ("path", "lists", "members", "held_out", "judged")]
        found |= {path for path in paths if path and not Path(path).is_relative_to(home)}
    return sorted(found)


def _traces(home: Path, path: Path, wanted: Wanted) -> list[str]:
    """What of the person is in a file; nothing where it has gone in the meantime."""
    with suppress(FileNotFoundError):
        return [what for _, what in search_file(path, wanted, handed_in=was_handed_in(home, path)).traces]
    return []


# What is done


def _rewrite_data(store: Store, plan: Plan) -> dict[str, str]:
    """Saved data sets, written anew without the person: old key, new key."""
    made = {}
    for entry in plan.data:
        left = _without(entry, plan.wanted) if entry.kind == "data-set" else None
        if left is not None:
            made[entry.key] = library.save(store, left, _renamed(entry.name, plan.wanted), entry.created)
    return made


def _without(entry: Entry, wanted: Wanted) -> Interactions | None:
    """A data set without the person, and without the items that nobody else has; None where nothing is left."""
    whole = Interactions.read(entry.path)
    left = whole.changed(lambda part: part.filter(~pl.col("user").is_in(list(wanted.ids))))
    present = left.rows.select(pl.col("item").unique()).collect(engine="streaming")["item"]
    items = whole.items.filter(pl.col("item").is_in(present.implode()))
    return dataclasses.replace(left, items=items) if len(present) else None


def _rewrite_results(store: Store, plan: Plan, keys: dict[str, str]) -> dict[str, str]:
    """Results without the person's rows, each under a new key; placebos are not kept: their audit says what they showed."""
    results = [entry for entry in plan.results if entry.kind != "placebo"]
    made = {entry.key: content_key("without a person", 1, {}, [entry.key]) for entry in results}
    keys = {**keys, **made}
    for entry in results:

        def write(folder: Path, entry: Entry = entry) -> None:
            for path in sorted(entry.path.rglob("*")):
                if path.is_file() and path.name != "artifact.json":
                    _write_without(path, folder / path.relative_to(entry.path), plan.wanted, keys)

        name = _renamed(entry.name, plan.wanted)
        store.build(made[entry.key], entry.kind, write, name=name, keep=True, created=entry.created)
    return made


def _write_without(path: Path, to: Path, wanted: Wanted, keys: Mapping[str, str]) -> None:
    """A file of a result without the person, and with the keys of what else was written anew."""
    to.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        table = parquet.read(path)
        texts = [name for name, kind in table.schema.items() if kind == pl.String]
        for name in texts:
            ids = [one for one in wanted.ids if wanted.names(one, name in USER_FIELDS)]
            table = table.filter(~pl.col(name).is_in(ids).fill_null(False))
        table.with_columns(pl.col(name).replace(dict(keys)) for name in texts).write_parquet(
            to, row_group_size=ROWS_TOGETHER
        )
    elif path.suffix == ".json":
        document = _cleaned(json.loads(path.read_text(encoding="utf-8")), "", wanted, keys)
        if "config" in document:
            document = _marked(document)
        to.write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")
    else:
        shutil.copy2(path, to)


def _marked(document: dict[str, Any]) -> dict[str, Any]:
    """A result that says that somebody was erased since."""
    before = int(document.get("erased", 0))
    marked = {**document, "erased": before + 1}
    if "artifacts" in document:
        marked["artifacts"] = []
    if "notes" in document:
        notes = [said for said in document["notes"] if said != erased_sentence(before)]
        marked["notes"] = [*notes, erased_sentence(before + 1)]
    return marked


def _cleaned(value: Any, name: str, wanted: Wanted, keys: Mapping[str, str]) -> Any:
    """JSON data without the person, and with new keys for old ones."""
    of_users = name in USER_FIELDS
    if isinstance(value, str):
        return keys.get(value) or _renamed(value, wanted)
    if isinstance(value, list):
        left = [item for item in value if not (isinstance(item, str) and wanted.names(item, of_users))]
        return [_cleaned(item, name, wanted, keys) for item in left]
    if isinstance(value, dict):
        return {
            key: _cleaned(item, key, wanted, keys) for key, item in value.items() if not wanted.names(key, of_users)
        }
    return value


def _renamed(name: str, wanted: Wanted) -> str:
    """A name that somebody gave, without the id in it."""
    for one in sorted(wanted.telling, key=len, reverse=True):
        name = name.replace(one, GONE)
    return name


def _clear_files(home: Path, plan: Plan) -> None:
    """Uploads go whole; lists and logs lose the lines that name the person, and go whole where that is not enough, as where no
    line can be told from another; half-made work goes whole."""
    for path in plan.files:
        in_lines = path.suffix.lower() in (".txt", ".log", ".csv", ".tsv") and not path.is_relative_to(home / "uploads")
        if in_lines:
            _drop_lines(path, plan.wanted)
        if not in_lines or _traces(home, path, plan.wanted):
            path.unlink(missing_ok=True)
    for folder in ("building", "scratch"):
        for path in (home / folder).glob("*"):
            shutil.rmtree(path, ignore_errors=True)


def _drop_lines(path: Path, wanted: Wanted) -> None:
    """Writes a file anew without the lines that name the person; all others stay byte for byte."""
    left = path.with_name(f"{path.name}.left")
    with suppress(ValueError, FileNotFoundError):
        with path.open("rb") as before, left.open("wb") as after:
            after.writelines(
                line for line in bounded_lines(before) if not _line_names(line, path.suffix == ".log", wanted)
            )
        left.replace(path)
    left.unlink(missing_ok=True)


def _line_names(line: bytes, log: bool, wanted: Wanted) -> bool:
    cells = cells_of(line)
    return any(wanted.names(cell, not log) for cell in cells) or any(one in cells[0] for one in wanted.telling)


def _to_run_anew(plan: Plan) -> list[tuple[Entry, dict[str, Any], Interactions | None]]:
    """Results that are to be computed anew, each with its document, and its data without the person where one set was kept."""
    kept = {entry.key: entry for entry in plan.data}
    found = []
    for entry in plan.results:
        if entry.kind in JOB_OF:
            document = _document(entry)
            data = document.get("data", [])
            keys = {data["key"]} if isinstance(data, dict) else set(data)
            mine = kept.get(keys.pop()) if len(keys) == 1 else None
            found.append((entry, document, _without(mine, plan.wanted) if mine else None))
    return found


def _queued(store: Store, done: Erased, anew: Sequence[tuple[Entry, dict[str, Any], Interactions | None]]) -> Erased:
    """Queues results anew on the data without the person, as many as may wait."""
    jobs, left_out, wanted = {}, [], done.plan.wanted
    for entry, document, left in anew:
        kind, argument = JOB_OF[entry.kind]
        config = _cleaned(document["config"], "", wanted, done.rewritten)
        experiment = config if entry.kind == "audit" else config["experiment"]
        rewritten = experiment["data"].get("key") in done.rewritten.values()
        nobody_left = config.get("forget") == []
        if experiment["target"]["source"] in ("own", "lists") or nobody_left or not (rewritten or left):
            left_out.append(entry)
            continue
        name = _renamed(entry.name, wanted)
        if not rewritten and left:
            # These are already cut into sessions and thinned.
            data = Data(source="data-set", key=library.save(store, left, name), sessions=Sessions(by="none"))
            experiment["data"] = data.model_dump(mode="json")
        payload = {argument: {**config, "name": name}, "runtime": Runtime().model_dump(mode="json")}
        try:
            job = Queue(store.home).submit(kind, name, {**payload, "version": __version__})
        except LimitReached:
            left_out.append(entry)
        else:
            jobs[job.id] = entry
    if jobs:
        ensure_supervisor(store.home)
    return dataclasses.replace(done, queued=jobs, not_retrained=left_out)


def _document(entry: Entry) -> dict[str, Any]:
    name = {"study": "study.json", "defenses": "defenses.json", "forgetting": "forgetting.json"}.get(
        entry.kind, "result.json"
    )
    document: dict[str, Any] = json.loads((entry.path / name).read_text(encoding="utf-8"))
    return document
