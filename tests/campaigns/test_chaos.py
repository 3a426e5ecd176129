"""Kill -9 at random moments: the same report byte for byte, no orphan process, no stale lock, nothing left behind.

The whole campaign is `pytest -m campaign tests/campaigns/test_chaos.py`; RUNS of it can be chosen by MIA_CHAOS_RUNS.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from tests.campaigns.chaos import VICTIMS, Outcome, Victim, disturbed, undisturbed
from tests.machines.two_machines import two_machines

RUNS = int(os.environ.get("MIA_CHAOS_RUNS", "200"))


def told(outcome: Outcome) -> str:
    """One line of the campaign's log."""
    when = "over" if outcome.was_over else outcome.stage or "before its first stage"
    return (
        f"seed {outcome.seed}, {outcome.victim} killed ({when}; {outcome.finished_before} artifacts finished), "
        f"{outcome.took:.1f} s: {'; '.join(outcome.faults) or 'as if nothing had happened'}"
    )


def campaign(folder: Path, seeds: range, victim: Victim) -> list[Outcome]:
    """Runs that are killed, one after the other."""
    outcomes = []
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(two_machines()).address if victim == "machine" else ""
        calm = undisturbed(folder, victim, address)
        if address:
            assert calm.report == undisturbed(folder, victim).report
        for seed in seeds:
            outcome = disturbed(folder, seed, victim, calm, address)
            print(told(outcome), flush=True)  # noqa: T201
            outcomes.append(outcome)
    return outcomes


def test_a_killed_run_goes_on_to_the_same_report(tmp_path: Path) -> None:
    outcomes = campaign(tmp_path, range(1), "job")
    faulty = [told(outcome) for outcome in outcomes if outcome.faults]
    assert not faulty, "\n".join(faulty)


@pytest.mark.campaign
@pytest.mark.parametrize("victim", VICTIMS)
def test_every_killed_run_ends_with_the_same_report(tmp_path: Path, victim: Victim) -> None:
    outcomes = campaign(tmp_path, range(RUNS // len(VICTIMS)), victim)
    faulty = [told(outcome) for outcome in outcomes if outcome.faults]
    assert not faulty, "\n".join(faulty)
