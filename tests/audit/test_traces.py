"""What lies behind the scores: tokens, training, the map, and a score without one interaction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mia_core.data.prompts import Event
from mia_core.errors import NotFound
from mia_core.experiment import Runtime
from mia_core.pipeline import run_audit
from mia_core.report.results import AuditResult, read_table
from mia_core.storage.store import Store
from mia_core.studies.without import _without_each, score_without_each
from mia_core.types import Role, Silent
from tests.test_pipeline import tiny


class Listening(Silent):
    """A Progress that keeps the first figures."""

    def __init__(self) -> None:
        self.told: dict[str, list[dict[str, float | str | None]]] = {}

    def tell(self, figure: str, row: dict[str, float | str | None]) -> None:  # type: ignore[override]
        self.told.setdefault(figure, []).append(row)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def listening() -> Listening:
    return Listening()


@pytest.fixture(scope="module")
def audited(shared: Store, listening: Listening) -> AuditResult:
    attacks = {"names": ["loss", "target_minus_base", "soft_difference"], "lead": "target_minus_base"}
    return run_audit(tiny(evaluation={"map_users": 60}, attacks=attacks), shared, listening)


def table(result: AuditResult, store: Store, name: str) -> pl.DataFrame:
    return read_table(store.find(result.key) or Path(), name)


def test_tokens_add_up_to_the_scores_that_they_explain(audited: AuditResult, shared: Store) -> None:
    tokens, users = table(audited, shared, "tokens"), table(audited, shared, "users")
    windows = tokens.group_by("user", "window").agg(pl.col("target", "base").mean())
    means = windows.group_by("user").agg(pl.col("target", "base").mean())
    both = users.join(means, on="user").filter(pl.col("score.loss").is_not_null())
    assert both.height == users.filter(pl.col("score.loss").is_not_null()).height
    np.testing.assert_allclose(both["target"], both["score.loss"], atol=1e-4)
    places = tokens.group_by("user", "window").agg("place")["place"]
    assert all(found.to_list() == list(range(len(found))) for found in places)
    np.testing.assert_allclose(both["target"] - both["base"], both["score.target_minus_base"], atol=1e-4)


def test_tokens_of_a_window_spell_the_title_of_its_answer(audited: AuditResult, shared: Store) -> None:
    tokens = table(audited, shared, "tokens")
    assert tokens.equals(tokens.sort("user", "window", "place"))
    titles = dict(
        pl.read_parquet((shared.find(audited.data["key"]) or Path()) / "items.parquet")
        .select("item", "title")
        .iter_rows()
    )
    for (_, _), part in tokens.filter(pl.col("item").is_not_null()).group_by("user", "window"):
        assert "".join(part["text"]).strip() == titles[part["item"][0]]
        assert part["item"].n_unique() == 1


def test_training_is_followed_from_before_it_began_to_its_end(
    audited: AuditResult, shared: Store, listening: Listening
) -> None:
    training = table(audited, shared, "training")
    assert training["epoch"].to_list() == [0, 2, 4, 6, 8, 10, 12]
    first, last = training.row(0, named=True), training.row(-1, named=True)
    # Nothing is known of anybody before; members become likelier than held-out users.
    assert first["low"] < 0.5 < first["high"]
    assert last["low"] > 0.5
    assert last["members"] < last["held_out"] < first["held_out"]
    assert pl.DataFrame(listening.told["training"]).equals(training)
    assert {row["attack"] for row in listening.told["scores"]} == {a.title for a in audited.attacks}


def test_watching_changes_nothing(audited: AuditResult, shared: Store, tmp_path: Path) -> None:
    unwatched = Store(tmp_path / "unwatched")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mia_core.audit.stages.WATCHED", 0)
        plain = run_audit(tiny(evaluation={"map_users": 0}, attacks=audited.config["attacks"]), unwatched)
    assert table(plain, unwatched, "users").equals(table(audited, shared, "users"))
    assert not (unwatched.find(plain.key) or Path()).joinpath("training.parquet").exists()


def test_the_map_shows_outputs_and_hidden_vectors_and_the_way_through_the_epochs(
    audited: AuditResult, shared: Store
) -> None:
    places = table(audited, shared, "map")
    assert set(places["role"]) <= {Role.AUDITED_MEMBER, Role.AUDITED_HELD_OUT}
    finished = places.filter(pl.col("epoch").is_null())
    kinds = {(drawn, method) for drawn, method in finished.select("drawn_from", "method").unique().iter_rows()}
    assert kinds == {(drawn, m) for drawn in ("outputs", "correlation", "hidden") for m in ("t-SNE", "PCA")}
    assert finished.group_by("drawn_from", "method").len()["len"].to_list() == [60] * 6
    way = places.filter(pl.col("epoch").is_not_null())
    assert sorted(way["epoch"].unique()) == [0, 2, 4, 6, 8, 10, 12]
    assert (way["method"] == "PCA").all()
    # Training moves people on the map.
    moved = way.pivot("epoch", index="user", values="x")
    assert float((moved["12"] - moved["0"]).abs().mean() or 0) > 0.1


def test_without_the_interactions_that_gave_a_member_away_the_score_falls(audited: AuditResult, shared: Store) -> None:
    users = table(audited, shared, "users").filter(pl.col("role") == Role.AUDITED_MEMBER, pl.col("windows") == 2)
    user = users.sort("score.target_minus_base", descending=True)["user"][0]
    found = score_without_each(audited.key, user, shared, Silent(), Runtime())
    row = users.filter(pl.col("user") == user).row(0, named=True)
    assert found.score == pytest.approx(row["score.target_minus_base"], abs=1e-4)
    assert len(found.rows) == 2 * 5
    answers = [one for one in found.rows if one.part == "answer"]
    # Without one window's answer only the other window speaks.
    tokens = table(audited, shared, "tokens").filter(pl.col("user") == user)
    window = tokens.group_by("window").agg((pl.col("target") - pl.col("base")).mean().alias("told")).sort("window")
    assert [one.score for one in answers] == pytest.approx([*reversed(window["told"].to_list())], abs=1e-3)
    assert any(one.change < -0.01 for one in found.rows if one.change is not None)
    assert found.score is not None
    for one in found.rows:
        assert one.score is not None
        assert one.change == pytest.approx(one.score - found.score)


@pytest.mark.parametrize("whole", [False, True])
def test_what_is_left_lacks_one_interaction_and_nothing_else(whole: bool) -> None:
    windows = [[Event(f"{window}{place}", "", None) for place in "abc"] for window in "01"]
    asked = _without_each(windows, whole=whole)
    assert [one.event for one in asked] == [event for window in windows for event in window]
    for one in asked:
        kept = [[event for event in window if event is not one.event] for window in windows]
        if one.part == "answer":
            # The question was about it: nothing of its window can be asked any more.
            kept[one.window] = []
        assert one.windows == [window for window in kept if window]
    assert [one.part for one in asked] == (["history"] * 6 if whole else ["history", "history", "answer"] * 2)


def test_nobody_is_asked_about_who_built_the_audit(audited: AuditResult, shared: Store) -> None:
    known = table(audited, shared, "users").filter(pl.col("role") == Role.KNOWN_MEMBER)["user"][0]
    with pytest.raises(NotFound, match="not among those whom this audit judges"):
        score_without_each(audited.key, known, shared, Silent(), Runtime())
