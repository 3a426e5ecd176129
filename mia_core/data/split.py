"""Users, never records, get disjoint roles by seeded coin flips, kept as a manifest."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import polars as pl

from mia_core.data.interactions import Interactions
from mia_core.errors import DataError
from mia_core.seeds import generator
from mia_core.types import Role

FEWEST_USERS = 20
FEWEST_PER_ROLE = 2


@dataclass(frozen=True)
class Split:
    """The role of every user, and how it was drawn."""

    roles: dict[str, Role]
    manifest: dict[str, Any]
    """seed, shares or lists, and what else decided the draw."""

    def users(self, *roles: Role) -> list[str]:
        """The users with any of these roles, sorted."""
        return sorted(user for user, role in self.roles.items() if role in roles)

    def counts(self) -> dict[str, int]:
        """Users per role, roles without users left out."""
        counted = {role: sum(r == role for r in self.roles.values()) for role in Role}
        return {str(role): count for role, count in counted.items() if count}

    def null_trainees(self, seed: int) -> list[str]:
        """A random half of the public users: the strangers whom the null world's target is fine-tuned on."""
        public = generator(seed, "null world").permutation(self.users(Role.PUBLIC))
        return sorted(str(user) for user in public[: len(public) // 2])

    def write(self, folder: Path) -> None:
        """Saves the manifest with its own SHA-256."""
        document = {**self.manifest, "roles": {user: str(role) for user, role in sorted(self.roles.items())}}
        text = json.dumps(document, ensure_ascii=False, sort_keys=True)
        sealed = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "split": document}
        (folder / "manifest.json").write_text(json.dumps(sealed, ensure_ascii=False, indent=1), encoding="utf-8")

    @staticmethod
    def read(folder: Path) -> Split:
        """The split saved in a folder.

        Raises:
            DataError: the manifest was changed after it was written.
        """
        sealed = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        text = json.dumps(sealed["split"], ensure_ascii=False, sort_keys=True)
        if hashlib.sha256(text.encode()).hexdigest() != sealed["sha256"]:
            raise DataError("the split's manifest was changed after it was drawn; delete the audit and run it again")
        manifest = dict(sealed["split"])
        roles = {user: Role(role) for user, role in manifest.pop("roles").items()}
        return Split(roles, manifest)


def split_users(
    interactions: Interactions, public_share: float, member_share: float, known_share: float, seed: int
) -> Split:
    """Roles for an owner audit: a seeded shuffle of the users, cut at exact shares.

    Users with the same items in the same order count as one, so that no history straddles two roles.

    Raises:
        DataError: there are too few users for every role to have some.
    """
    groups = _same_histories(interactions)
    order = generator(seed, "split").permutation(len(groups))
    total = sum(len(group) for group in groups)
    public = round(public_share * total)
    members = round(member_share * (total - public))
    known_members = round(known_share * members)
    known_held_out = round(known_share * (total - public - members))
    wanted = {
        Role.PUBLIC: public,
        Role.KNOWN_MEMBER: known_members,
        Role.AUDITED_MEMBER: members - known_members,
        Role.KNOWN_HELD_OUT: known_held_out,
        Role.AUDITED_HELD_OUT: total - public - members - known_held_out,
    }
    if total < FEWEST_USERS or min(wanted.values()) < FEWEST_PER_ROLE:
        raise DataError(
            f"{total} users have enough interactions, which is too few to split: every one of the five roles needs at "
            f"least {FEWEST_PER_ROLE} users, all together at least {FEWEST_USERS}; give more users, a shorter "
            "prompt.history, or other shares"
        )
    roles: dict[str, Role] = {}
    filling = iter(wanted.items())
    role, room = next(filling)
    for position in order:
        while room <= 0:
            role, room = next(filling, (Role.AUDITED_HELD_OUT, total))
        for user in groups[position]:
            roles[user] = role
            room -= 1
    drawn = Counter(roles.values())
    if min(drawn[role] for role in wanted) < FEWEST_PER_ROLE:
        largest = max(len(group) for group in groups)
        raise DataError(
            f"{largest} of {total} users have one and the same history; as they must share a role, some role gets fewer than "
            f"{FEWEST_PER_ROLE} users; leave out the copies, or give more users"
        )
    shares = {"public": public_share, "member": member_share, "known": known_share}
    return Split(roles, {"seed": seed, "shares": shares, "drawn": "seeded shuffle of users, cut at exact shares"})


def split_own(
    interactions: Interactions, members: Sequence[str], held_out: Sequence[str], judged: Sequence[str], seed: int
) -> Split:
    """Roles for a target that is brought along: lists of known members, known held-out users, and users to judge.

    A random half of the held-out list is `known`, the other half calibrates. Everybody else is an unlabelled third
    party.

    Raises:
        DataError: an id is not in the data, stands in two lists, or a list is too short.
    """
    everybody = set(interactions.users.to_list())
    lists = {"members": set(members), "held_out": set(held_out), "judged": set(judged)}
    for name, users in lists.items():
        strangers = users - everybody
        if strangers:
            raise DataError(
                f"target.{name}: {len(strangers)} of {len(users)} ids are not users of the data; ids are compared as "
                "text, letter by letter (00123 is not 123)"
            )
    for first, second in (("members", "held_out"), ("members", "judged"), ("held_out", "judged")):
        both = lists[first] & lists[second]
        if both:
            raise DataError(f"target.{first} and target.{second} share {len(both)} users; every user has one role")
    if len(lists["members"]) < 10 or len(lists["held_out"]) < 20:
        raise DataError(
            f"target.members has {len(lists['members'])} users and target.held_out {len(lists['held_out'])}; at least "
            "10 members and 20 held-out users are needed (half of the latter calibrate)"
        )
    known = {
        str(u)
        for u in generator(seed, "own split").permutation(sorted(lists["held_out"]))[: len(lists["held_out"]) // 2]
    }
    roles = dict.fromkeys(sorted(everybody), Role.PUBLIC)
    roles |= dict.fromkeys(lists["members"], Role.KNOWN_MEMBER)
    roles |= dict.fromkeys(lists["held_out"], Role.AUDITED_HELD_OUT) | dict.fromkeys(known, Role.KNOWN_HELD_OUT)
    roles |= dict.fromkeys(lists["judged"], Role.JUDGED)
    return Split(roles, {"seed": seed, "drawn": "lists given by the auditor; half of the held-out list is known"})


def lines_of(text: str) -> list[str]:
    """The lines of a list, an id or a title each; empty lines are skipped. Only line breaks part them, as in a table."""
    return [line.strip() for line in StringIO(text.removeprefix("\ufeff"), newline=None) if line.strip()]


def read_lines(path: Path, name: str, what: str, largest: int = -1) -> list[str]:
    """The lines of a text file, as `lines_of` parts them.

    Args:
        name: of the setting or option that gave the path.
        what: a line holds, such as "user id".
        largest: bytes; any size by default.
    Raises:
        DataError: the file is missing, too large or not text.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(largest + 1 if largest >= 0 else -1)
        if 0 <= largest < len(content):
            raise DataError(
                f"{name} {path.name!r} is larger than {largest:,} bytes; give a text file with one {what} a line"
            )
        return lines_of(content.decode("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise DataError(
            f"{name} {path.name!r} cannot be read: {reason}; give a text file with one {what} a line"
        ) from error


def _same_histories(interactions: Interactions) -> list[list[str]]:
    """Users grouped by identical ordered item lists, in the order of each group's first user."""
    marks = pl.concat(_marks(part) for part in interactions.parts())
    found = (
        marks.group_by("length", "first", "second", maintain_order=True).agg("user").sort(pl.col("user").list.first())
    )
    return [sorted(group) for group in found["user"].to_list()]


def _marks(histories: pl.DataFrame) -> pl.DataFrame:
    """user, and three numbers that are the same for identical ordered item lists, and for no others: 128 bits of them are
    hashed, so that two among a billion histories meet by chance once in 10^20 times."""
    placed = histories.select("user", "item", place=pl.int_range(pl.len()).over("user"))
    seeds = {"first": 1, "second": 2}
    hashed = placed.select("user", **{name: pl.struct("item", "place").hash(seed) for name, seed in seeds.items()})
    of_items = (pl.col(name).bitwise_xor() for name in seeds)
    return hashed.group_by("user", maintain_order=True).agg(pl.len().alias("length"), *of_items)
