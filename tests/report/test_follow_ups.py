"""What was done about a leak is found again with the audit that it belongs to."""

from __future__ import annotations

from typing import Any

import pytest

from mia_core.experiment import Runtime, parse_experiment
from mia_core.pipeline import run_audit
from mia_core.report.follow_ups import follow_ups
from mia_core.storage.store import Store
from mia_core.studies import study
from mia_core.studies.defending import parse_defending, run_defending
from mia_core.studies.forgetting import parse_forgetting, run_forgetting

HERE = Runtime(device="cpu", threads=1)
QUICK = {"epochs": 2, "learning_rate": 5e-3}
AUDIT: dict[str, Any] = {
    "data": {"synthetic": {"users": 110, "items": 40, "mean_history": 14, "tastes": 3}},
    "prompt": {"history": 3, "windows": 2},
    "base": {"width": 16, "layers": 2, "vocabulary": 300, "pretraining": QUICK},
    "target": {"training": QUICK},
    "attacks": {"names": ["loss", "target_minus_base"], "lead": "target_minus_base"},
    "evaluation": {"resamples": 100, "ranked_users": 8, "negatives": 8, "placebo": False},
}


def test_they_belong_to_the_same_target_on_the_same_data(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "spare_cores", lambda: 0)
    mine = run_audit(parse_experiment(AUDIT), store, runtime=HERE)
    other = run_audit(parse_experiment({**AUDIT, "target": {"training": {**QUICK, "epochs": 1}}}), store, runtime=HERE)
    assert follow_ups(store, mine) == []
    # From the page it is asked of the data that the audit kept.
    kept = {**AUDIT, "data": {"source": "kept", "key": mine.data["key"]}}
    tried = [{"title": "One window", "names": ["cap_records"]}]
    run_defending(parse_defending({"experiment": kept, "tried": tried, "seeds": [0]}), store, runtime=HERE)
    run_forgetting(parse_forgetting({"experiment": kept, "methods": ["nothing"]}), store, runtime=HERE)
    found = {one.kind: one.sentences for one in follow_ups(store, mine)}
    assert set(found) == {"defenses", "forgetting"}
    assert any("HR@10" in sentence for sentence in found["defenses"])
    assert found["forgetting"][0].startswith("Nothing (control). ")
    assert follow_ups(store, other) == []
