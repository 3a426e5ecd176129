"""What a flag means where few people are members: counted in people, not in probabilities."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Counted:
    """Of so many people, how many are flagged, and how many of these are members."""

    people: int
    members: int
    flagged_members: int
    flagged_others: int

    @property
    def flagged(self) -> int:
        """Everybody who is flagged."""
        return self.flagged_members + self.flagged_others

    @property
    def share(self) -> float | None:
        """Share of members among the flagged; None where nobody is flagged."""
        return self.flagged_members / self.flagged if self.flagged else None


def count_flagged(people: int, prior: float, tpr: float, fpr: float) -> Counted:
    """Whom a flag falls on, in whole people.

    Formula: flagged members = TPR · prior · people; flagged others = FPR · (1 - prior) · people
    Args:
        people: who are looked at.
        prior: share of members among them.
        tpr: share of the members who are flagged.
        fpr: share of the others who are flagged.
    Source: natural frequencies: Gigerenzer & Hoffrage, Psychological Review 102 (1995).
    """
    members = round(people * prior)
    return Counted(people, members, round(tpr * members), round(fpr * (people - members)))
