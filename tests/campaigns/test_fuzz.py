"""Nothing that somebody uploads or writes crashes, hangs or fills the memory: it is accepted, or refused with a message."""

from __future__ import annotations

import sys

import pytest

from tests.campaigns.fuzzing import run_part

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited and measured by what Linux offers")

WHOLE = {
    "layouts": 3_000,
    "tables": 1_200,
    "lists": 300,
    "id-lists": 200,
    "seals": 200,
    "kept": 150,
    "models": 150,
    "values": 500,
    "texts": 400,
    "documents": 200,
}
"""Cases of each part: 5,200 of uploads, 1,100 of configs."""
SHORT = {"layouts": 60, "tables": 25, "values": 40, "texts": 20}


def check(part: str, cases: int) -> None:
    tally = run_part(part, 0, cases)
    print(f"\n{tally.summary()}")  # noqa: T201 - the figures of a campaign, shown by `pytest -s`
    assert len(tally.outcomes) == cases
    assert not tally.faults, "\n\n".join(tally.faults)
    # Else nothing would come to what is done with what is accepted.
    if part in ("layouts", "tables", "values"):
        assert {one.ending for one in tally.outcomes} == {"accepted", "refused"}


@pytest.mark.parametrize("part", SHORT)
def test_some_hostile_cases_are_accepted_or_refused(part: str) -> None:
    check(part, SHORT[part])


@pytest.mark.campaign
@pytest.mark.parametrize("part", WHOLE)
def test_thousands_of_hostile_cases_are_accepted_or_refused(part: str) -> None:
    check(part, WHOLE[part])
