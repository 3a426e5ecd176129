"""Ten people for an hour, with jobs that come and go: no fault, no mix-up, memory that stays flat, answers in time.

The hour is `pytest -m soak`; MIA_SOAK_SECONDS makes it another length.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import ten_people
from ten_people import MOST_MEMORY, SLOWEST, WATCH_SECONDS, Measured, measured

SECONDS = float(os.environ.get("MIA_SOAK_SECONDS", "3600"))
WARM = 0.25
"""Share of the time after which every page has been opened, and what they keep is in memory."""
MOST_GROWTH = 0.1
"""Of the memory when warm, in an hour."""


def told(found: Measured) -> str:
    """What was measured, for the log."""
    megabytes = [f"{value / 2**20:.0f}" for value in found.memory[:: max(1, len(found.memory) // 10)]]
    clicks = sum(len(values) for values in found.clicks.values())
    return (
        f"{clicks} clicks, 95% within {found.slow:.2f} s; {found.jobs} jobs; MB of the server: {', '.join(megabytes)}; "
        f"wrong: {'; '.join(found.wrong[:10]) or 'nothing'}"
    )


def growth(memory: list[float]) -> float:
    """By which share the memory grows in an hour, once warm: the slope of a straight line."""
    warm = memory[int(WARM * len(memory)) :]
    slope = np.polyfit(np.arange(len(warm)) * WATCH_SECONDS / 3600, warm, 1)[0]
    return float(slope / np.mean(warm))


@pytest.mark.browser
def test_a_few_people_browse_while_jobs_come_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIA_HOME", str(tmp_path))
    monkeypatch.setattr(ten_people, "BETWEEN_CLICKS", (0.5, 1.0))
    monkeypatch.setattr(ten_people, "ARRIVING", 1.0)
    found = measured(tmp_path, 8, people=2, jobs_come_and_go=True)
    assert not found.wrong
    assert max(found.memory) < MOST_MEMORY
    assert sum(map(len, found.clicks.values())) >= 2


@pytest.mark.soak
def test_ten_people_for_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIA_HOME", str(tmp_path))
    found = measured(tmp_path, SECONDS, jobs_come_and_go=True)
    print(told(found))  # noqa: T201
    assert not found.wrong
    assert max(found.memory) < MOST_MEMORY
    assert SECONDS < 1_800 or growth(found.memory) < MOST_GROWTH
    assert found.slow < SLOWEST
