"""A finished audit is kept without ids: nobody can be read off it, and whoever has the key can still ask by the real id."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from mia_core.__main__ import application
from mia_core.data import library
from mia_core.data.interactions import Interactions, validate
from mia_core.data_rights.erasing import erase
from mia_core.data_rights.pseudonyms import pseudonymise
from mia_core.errors import Cancelled, ConfigError, NotFound
from mia_core.jobs.queue import Queue
from mia_core.report.finished import read_finished
from mia_core.report.letter import find_subject
from mia_core.report.lookup import lookup_user
from mia_core.report.results import AuditResult, read_result, read_table
from mia_core.storage.store import Store
from mia_core.studies.cohort import judge_cohort
from tests.conftest import ODD_IDS


@pytest.fixture
def data() -> Interactions:
    return validate(pl.DataFrame({"user": [*ODD_IDS, "am 3"], "item": list("abcd")}))


@pytest.fixture
def audit(store: Store, data: Interactions, saved: AuditResult) -> AuditResult:
    """The audit of the fixtures with its data and a table of what people had."""
    store.build(data.key, "interactions", data.write, keep=True)
    tokens = pl.DataFrame({"user": [ODD_IDS[0]], "window": [0], "place": [0], "text": ["Brazil"]})
    result = dataclasses.replace(saved, data={**saved.data, "key": data.key}, artifacts=[data.key])
    store.alter(saved.key, lambda folder: result.write(folder, {"tokens": tokens}))
    return result


def all_text(folder: Path) -> str:
    tables = "\n".join(pl.read_parquet(path).write_csv() for path in folder.rglob("*.parquet"))
    return tables + "\n".join(path.read_text() for path in folder.rglob("*.json"))


def test_no_id_is_left_and_everybody_is_found_by_theirs(
    store: Store, audit: AuditResult, users_table: pl.DataFrame
) -> None:
    before = {user: lookup_user(store, audit.key, user) for user in ODD_IDS}
    done = pseudonymise(store, audit.key)
    assert store.find(audit.key) is None
    folder = store.find(done.key)
    assert folder is not None
    text = all_text(folder)
    assert not [user for user in users_table["user"] if user in text]
    assert "Brazil" not in text
    for user, found in before.items():
        after = lookup_user(store, done.key, user)
        assert dataclasses.replace(after, member_scores=[], held_out_scores=[]) == dataclasses.replace(
            found, member_scores=[], held_out_scores=[]
        )
        assert sorted(after.held_out_scores) == sorted(found.held_out_scores)
    users = read_table(folder, "users")
    # Its pseudonym leads to a person as well; the rows are in an order of their own.
    assert lookup_user(store, done.key, users["user"][0]).role
    assert users["user"].is_sorted()
    with pytest.raises(NotFound):
        lookup_user(store, done.key, "nobody")
    assert find_subject(store, done.key, "nobody") is None
    assert find_subject(store, done.key, ODD_IDS[1]) is not None


def test_figures_stay_and_data_go(store: Store, audit: AuditResult, data: Interactions) -> None:
    done = pseudonymise(store, audit.key)
    result = read_result(store.find(done.key))  # type: ignore[arg-type]
    assert (result.metrics, result.claims, result.gates) == (audit.metrics, audit.claims, audit.gates)
    assert (result.pseudonyms_of, result.key) == (audit.key, done.key)
    assert any("pseudonyms" in note for note in result.notes)
    assert (store.find(data.key), done.gone, done.with_ids) == (None, 1, [])
    # A report cannot name people by ids that are not there.
    finished = read_finished(store, done.key)
    assert finished.naming("ids")("x") == finished.naming("pseudonyms")("x") == "x"
    with pytest.raises(ConfigError, match="already"):
        pseudonymise(store, done.key)


def test_who_still_has_the_ids_is_said(store: Store, audit: AuditResult, data: Interactions) -> None:
    library.save(store, data, "Films")
    assert pseudonymise(store, audit.key).with_ids == ["Films"]


def test_a_list_of_real_ids_is_judged(store: Store, audit: AuditResult, users_table: pl.DataFrame) -> None:
    ids = users_table.filter(pl.col("role") == "audited_member")["user"].to_list()[:20]
    before = judge_cohort(store, audit.key, ids)
    after = judge_cohort(store, pseudonymise(store, audit.key).key, ids)
    assert (after.listed, after.scored, after.recorded_members) == (before.listed, before.scored, 20)
    assert after.p_value == pytest.approx(before.p_value, rel=0.05)


def test_somebody_is_erased_from_it_by_their_id(store: Store, audit: AuditResult) -> None:
    done = pseudonymise(store, audit.key)
    erased = erase(store, ODD_IDS[1])
    kept = erased.kept[done.key]
    with pytest.raises(NotFound):
        lookup_user(store, kept, ODD_IDS[1])
    assert lookup_user(store, kept, ODD_IDS[2]).role


def test_jobs_about_people_go_and_nothing_is_changed_while_something_runs(store: Store, audit: AuditResult) -> None:
    queue = Queue(store.home)
    for kind, payload in (("without", {"audit": audit.key, "user": ODD_IDS[1]}), ("audit", {})):
        queue.submit(kind, kind, payload)
        job = queue.claim()
        assert job is not None
        queue.finish(job.id, audit.key)
    waiting = queue.submit("audit", "Waits", {"experiment": {}})
    with pytest.raises(ConfigError, match="running or waiting"):
        pseudonymise(store, audit.key)
    queue.cancel(waiting.id)
    done = pseudonymise(store, audit.key)
    assert [(job.kind, job.result_key) for job in queue.jobs() if job.state == "finished"] == [("audit", done.key)]


def test_the_command_asks_and_says_where_it_lies_now(store: Store, audit: AuditResult) -> None:
    def say(*given: str, answer: str = "") -> Any:
        return CliRunner().invoke(application, ["pseudonymise", audit.key, *given], input=answer)

    refused = say(answer="n\n")
    assert isinstance(refused.exception, Cancelled)
    assert str(refused.exception) == "nothing was changed"
    assert store.find(audit.key) is not None
    done = say("--yes")
    assert done.exit_code == 0, done.output
    (left,) = store.entries("audit")
    assert left.key[:12] in done.output
    assert "1 part with real ids is deleted" in done.output


def test_where_nothing_else_goes_nothing_is_said_of_it(saved: AuditResult) -> None:
    done = CliRunner().invoke(application, ["pseudonymise", saved.key, "--yes"])
    assert done.exit_code == 0, done.output
    assert "deleted" not in done.output


def test_each_audit_has_pseudonyms_of_its_own(
    store: Store,
    audit: AuditResult,
    make_result: Callable[..., AuditResult],
    save_audit: Callable[[AuditResult], AuditResult],
) -> None:
    other = save_audit(make_result(key="cd34" + "0" * 60))
    names = [
        set(read_table(store.find(pseudonymise(store, key).key), "users")["user"])  # type: ignore[arg-type]
        for key in (audit.key, other.key)
    ]
    assert not names[0] & names[1]
