"""What one owner may ask at once: who asks for more is told so, and nobody else notices."""

from __future__ import annotations

from pathlib import Path

import pytest

from mia_core.errors import ConfigError, LimitReached
from mia_core.jobs.queue import Queue
from mia_core.limits import JOBS, KEPT, LOOKUPS, UPLOADED, Turnstile, check_uploads
from mia_core.storage.store import Store


def test_more_jobs_than_an_owner_may_have_wait_for_nobody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(JOBS.variable, "2")
    mine, yours = Queue(tmp_path / "mine"), Queue(tmp_path / "yours")
    first = mine.submit("audit", "first", {"seed": 1})
    mine.submit("audit", "second", {"seed": 2})
    with pytest.raises(LimitReached, match=f"2 jobs wait or run already.*{JOBS.variable}"):
        mine.submit("audit", "third", {"seed": 3})
    assert mine.submit("audit", "first", {"seed": 1}).id == first.id
    assert yours.submit("audit", "third", {"seed": 3}).state == "queued"
    mine.cancel(first.id)
    assert mine.submit("audit", "third", {"seed": 3}).state == "queued"


def test_who_keeps_too_much_begins_nothing_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEPT.variable, "1")
    mine, yours = Store(tmp_path / "mine"), Store(tmp_path / "yours")

    def large(folder: Path) -> None:
        # Larger than the limit, without taking the room.
        with (folder / "weights.bin").open("wb") as file:
            file.truncate(2**30 + 1)

    mine.build("a" * 64, "model", large)
    with pytest.raises(LimitReached, match=f"take 1.0 GB, and 1 GB is the limit.*{KEPT.variable}"):
        Queue(mine.home).submit("audit", "one more", {})
    assert Queue(yours.home).submit("audit", "one more", {}).state == "queued"
    mine.remove("a" * 64)
    assert Queue(mine.home).submit("audit", "one more", {}).state == "queued"


def test_lookups_are_counted_by_the_minute_and_by_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOOKUPS.variable, "3")
    now = 0.0
    turnstile = Turnstile(LOOKUPS, "lookups", clock=lambda: now)
    for _ in range(3):
        turnstile.enter("mine")
        now += 10
    with pytest.raises(LimitReached, match=f"go on in 30 seconds.*{LOOKUPS.variable}"):
        turnstile.enter("mine")
    turnstile.enter("yours")
    now = 60.0
    turnstile.enter("mine")
    with pytest.raises(LimitReached):
        turnstile.enter("mine")


def test_uploads_that_were_not_saved_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(UPLOADED.variable, "3")
    check_uploads(2**20, 2 * 2**20)
    with pytest.raises(LimitReached, match=f"limit of 3 MB.*{UPLOADED.variable}"):
        check_uploads(2**20, 2 * 2**20 + 1)
    monkeypatch.setenv(UPLOADED.variable, "0")
    check_uploads(2**50, 2**50)


@pytest.mark.parametrize("value", ["many", "-1", "1.5", "²"])
def test_a_limit_that_is_no_number_is_explained(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOOKUPS.variable, value)
    with pytest.raises(ConfigError, match=f"{LOOKUPS.variable} is .*whole number"):
        Turnstile(LOOKUPS, "lookups").enter("mine")
