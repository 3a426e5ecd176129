from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mia_core.data.interactions import Interactions, validate
from mia_core.data.prompts import PROMPT_STYLES, PromptWriter, audit_samples, drawn_samples, events_by_user
from mia_core.data.split import Split, lines_of, read_lines, split_own, split_users
from mia_core.data.synthetic import generate, titles
from mia_core.errors import DataError
from mia_core.experiment import Synthetic
from mia_core.types import Role

SHARES = (0.2, 0.5, 1 / 3)


@pytest.fixture(scope="module")
def made() -> Interactions:
    return generate(Synthetic(users=150, items=60), 0)


def writer(made: Interactions, style: str = "next_item", history: int = 4) -> PromptWriter:
    names = dict(zip(made.items["item"], made.items["title"], strict=True))
    return PromptWriter(PROMPT_STYLES[style], PROMPT_STYLES[style].template, " ; ", history + 1, names, 3.0)


def test_every_user_has_one_role_in_the_right_shares(made: Interactions) -> None:
    split = split_users(made, *SHARES, seed=0)
    assert set(split.roles) == set(made.frame["user"])
    assert split.counts() == {
        "public": 30, "known_member": 20, "known_held_out": 20, "audited_member": 40, "audited_held_out": 40
    }  # fmt: skip


def test_the_coins_are_the_seeds_and_nothing_elses(made: Interactions) -> None:
    first = split_users(made, *SHARES, seed=1)
    shuffled = Interactions(made.frame.sample(fraction=1, shuffle=True, seed=5).sort("user", "timestamp"), made.items)
    assert split_users(shuffled, *SHARES, seed=1).roles == first.roles
    assert split_users(made, *SHARES, seed=2).roles != first.roles


def test_identical_histories_never_straddle_roles() -> None:
    rows = [(f"u{u}", f"i{u // 3}-{k}", float(k)) for u in range(90) for k in range(4)]
    frame = pl.DataFrame(rows, schema=["user", "item", "rating"], orient="row")
    split = split_users(validate(frame), *SHARES, seed=0)
    for group in range(30):
        assert len({split.roles[f"u{u}"] for u in range(3 * group, 3 * group + 3)}) == 1
    assert len(split.counts()) == 5


def test_too_few_users_are_refused_with_numbers() -> None:
    with pytest.raises(DataError, match=r"15 users .* at least 20"):
        split_users(validate(pl.DataFrame({"user": [f"u{i}" for i in range(15)], "item": ["x"] * 15})), *SHARES, seed=0)


def test_so_many_copies_that_a_role_stays_empty_are_refused() -> None:
    copies = [("i1", f"u{u}") for u in range(95)] + [("i2", f"v{u}") for u in range(5)]
    data = validate(pl.DataFrame(copies, schema=["item", "user"], orient="row"))
    with pytest.raises(DataError, match="95 of 100 users have one and the same history"):
        split_users(data, *SHARES, seed=0)


@settings(max_examples=25, deadline=None)
@given(
    histories=st.lists(st.integers(0, 200), min_size=60, max_size=120),
    seed=st.integers(0, 2**31),
    share=st.floats(0.2, 0.6),
)
def test_roles_partition_the_users_and_copies_stay_together(histories: list[int], seed: int, share: float) -> None:
    assume(max(Counter(histories).values()) <= 3)
    data = validate(
        pl.DataFrame({"user": [f"u{u}" for u in range(len(histories))], "item": [f"i{h}" for h in histories]})
    )
    split = split_users(data, share, 0.5, 0.5, seed)
    users = [split.users(role) for role in Role]
    assert sorted(user for group in users for user in group) == sorted(set(data.frame["user"]))
    of_history: dict[int, set[Role]] = {}
    for user, history in enumerate(histories):
        of_history.setdefault(history, set()).add(split.roles[f"u{user}"])
    assert all(len(roles) == 1 for roles in of_history.values())
    # A group of copies is at most three users, so a role is at most two over.
    assert abs(len(split.users(Role.PUBLIC)) - share * len(histories)) <= 2.5


def test_the_manifest_survives_and_tampering_is_noticed(made: Interactions, tmp_path: Path) -> None:
    split = split_users(made, *SHARES, seed=0)
    split.write(tmp_path)
    assert Split.read(tmp_path) == split
    document = json.loads((tmp_path / "manifest.json").read_text())
    user = next(iter(document["split"]["roles"]))
    document["split"]["roles"][user] = "audited_member" if split.roles[user] != Role.AUDITED_MEMBER else "public"
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match="changed after"):
        Split.read(tmp_path)


def test_null_trainees_are_half_of_the_public_users(made: Interactions) -> None:
    split = split_users(made, *SHARES, seed=0)
    trainees = split.null_trainees(0)
    assert len(trainees) == 15
    assert {split.roles[user] for user in trainees} == {Role.PUBLIC}


def test_a_target_that_is_brought_along(made: Interactions, tmp_path: Path) -> None:
    users = sorted(set(made.frame["user"]))
    members, held_out, judged = users[:30], users[30:70], users[70:80]
    split = split_own(made, members, held_out, judged, seed=0)
    assert Counter(split.roles.values()) == {
        Role.KNOWN_MEMBER: 30, Role.KNOWN_HELD_OUT: 20, Role.AUDITED_HELD_OUT: 20, Role.JUDGED: 10, Role.PUBLIC: 70
    }  # fmt: skip
    twice = split_own(made, members, [*held_out, *held_out], judged, seed=0)
    assert twice.counts() == split.counts()
    with pytest.raises(DataError, match="1 of 31 ids are not users"):
        split_own(made, [*members, "stranger"], held_out, judged, seed=0)
    with pytest.raises(DataError, match="share 1 users"):
        split_own(made, members, [*held_out, members[0]], judged, seed=0)
    with pytest.raises(DataError, match="at least"):
        split_own(made, members, held_out[:5], judged, seed=0)


def test_a_list_is_read_as_text_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    written = "\ufeff00123\r\n\r\n  Zoë 🎬 \n7\rone\u2028id\n"
    file.write_bytes(written.encode())
    assert read_lines(file, "target.members", "user id") == ["00123", "Zoë 🎬", "7", "one\u2028id"] == lines_of(written)
    assert len(read_lines(file, "IDS.txt", "user id", largest=file.stat().st_size)) == 4
    with pytest.raises(DataError, match=r"IDS\.txt 'ids\.txt' is larger"):
        read_lines(file, "IDS.txt", "user id", largest=file.stat().st_size - 1)
    file.write_bytes(b"\xff\xfe\x00A")
    for path in (file, tmp_path / "missing.txt", tmp_path):
        with pytest.raises(DataError, match=r"target\.members .* cannot be read: .* one user id a line"):
            read_lines(path, "target.members", "user id")


def test_windows_never_overlap_and_are_the_latest(made: Interactions) -> None:
    history = list(range(23))
    asker = replace(writer(made), window=5)
    windows = asker.windows(history, 3)  # type: ignore[arg-type]
    assert [list(w) for w in windows] == [list(range(8, 13)), list(range(13, 18)), list(range(18, 23))]
    assert asker.windows(history[:4], 3) == []  # type: ignore[arg-type]


def test_a_whole_history_is_one_window_of_any_length_from_two(made: Interactions) -> None:
    asker = replace(writer(made), style=PROMPT_STYLES["whole_history"], window=5)
    history = list(range(23))
    assert [list(window) for window in asker.windows(history)] == [[18, 19, 20, 21, 22]]  # type: ignore[arg-type]
    assert [list(window) for window in asker.windows(history[:2], 3)] == [[0, 1]]  # type: ignore[arg-type]
    assert asker.windows(history[:1]) == []  # type: ignore[arg-type]


def test_samples_keep_users_apart_and_say_who_has_none(made: Interactions) -> None:
    asker = writer(made)
    events = events_by_user(made, asker)
    users = [*sorted(events)[:5], "nobody"]
    samples = audit_samples(users, events, asker, 2)
    assert samples.counts().tolist() == [2, 2, 2, 2, 2, 0]
    assert samples.prompts[0] == "History: " + " ; ".join(e.title for e in events[users[0]][-10:-6]) + " Next:"
    assert samples.answers[1] == events[users[0]][-1].title
    chosen = samples.of_users([users[3]])
    assert chosen.prompts == samples.prompts[6:8]


def test_drawn_windows_are_distinct_and_of_the_user(made: Interactions) -> None:
    asker = writer(made)
    events = events_by_user(made, asker)
    user = sorted(events)[0]
    samples = drawn_samples([user], events, asker, 1_000, seed=0)
    assert len(samples) == len(events[user]) - 4 == len(set(samples.windows))


def test_like_or_dislike_tells_liked_from_disliked(made: Interactions) -> None:
    asker = writer(made, "like_dislike")
    window = [asker.event(item, rating) for item, rating in zip(made.items["item"][:5], [5, 1, 4, 2, 1], strict=True)]
    prompt, answer = asker.words(window)
    names = [event.title for event in window]
    assert prompt == f"Liked: {names[0]} ; {names[2]} Disliked: {names[1]} ; {names[3]} Will the user like {names[4]}?"
    assert answer == "No"


def test_the_built_in_data_are_the_same_everywhere_and_can_be_learned(made: Interactions) -> None:
    assert generate(Synthetic(users=150, items=60), 0).key == made.key
    assert generate(Synthetic(users=150, items=60), 1).key != made.key
    assert len(set(titles(20_000))) == 20_000
    lengths = made.frame.group_by("user").len()["len"]
    assert lengths.min() >= 18
    # What most often follows an item is a better guess than the most popular item.
    histories = made.frame.group_by("user", maintain_order=True).agg("item")["item"].to_list()
    pairs = [(a, b) for items in histories for a, b in itertools.pairwise(items)]
    train, test = pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :]
    follows: dict[str, Counter[str]] = {}
    for a, b in train:
        follows.setdefault(a, Counter())[b] += 1
    popular = Counter(b for _, b in train).most_common(1)[0][0]
    known = [(a, b) for a, b in test if a in follows]
    assert sum(follows[a].most_common(1)[0][0] == b for a, b in known) > 2 * sum(b == popular for _, b in known)
