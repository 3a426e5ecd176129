"""Whether one interaction was used, asked of real recommenders."""

from __future__ import annotations

from typing import Any

import pytest

from mia_core.experiment import parse_experiment
from mia_core.pipeline import run_audit
from mia_core.report.results import AuditResult
from mia_core.report.wording import interaction_sentences
from mia_core.storage.store import Store


def audited(store: Store, **recommender: Any) -> AuditResult:
    return run_audit(
        parse_experiment(
            {
                "data": {"synthetic": {"users": 300, "items": 120, "mean_history": 30}},
                "split": {"public_share": 0.3},
                "target": {"source": "recommender"},
                "recommender": {"factors": 32, "length": 20, **recommender},
                "attacks": {"names": ["list_popularity"], "lead": "list_popularity"},
                "evaluation": {"placebo": False, "ranked_users": 0, "resamples": 200},
            }
        ),
        store,
    )


def test_a_recommender_that_learned_ratings_by_heart_tells_which_were_used(store: Store) -> None:
    result = audited(store, left_out=0.3, epochs=60, learning_rate=0.05)
    told = {figure.evidence: figure for figure in result.interactions}
    assert told["own vector"].low > 0.75
    # Which of a member's items were kept back is a matter of chance: how popular they are says nothing about it.
    assert abs(told["popularity"].auc - 0.5) < 0.1
    assert told["own vector"].users > 50
    assert len(interaction_sentences(result)) == 3


def test_a_recommender_without_memory_of_single_ratings_tells_nothing(store: Store) -> None:
    told = audited(store, kind="popularity", left_out=0.3).interactions
    assert all(abs(figure.auc - 0.5) < 0.1 for figure in told)


@pytest.mark.parametrize("left_out", [0.0])
def test_it_is_not_asked_where_everything_was_used(store: Store, left_out: float) -> None:
    result = audited(store, left_out=left_out, epochs=1)
    assert result.interactions == []
    assert interaction_sentences(result) == []
