"""The page of forgetting: choose, launch, read the verdicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from mia_core.experiment import Runtime, parse_experiment
from mia_core.jobs.queue import Queue
from mia_core.pipeline import run_audit
from mia_core.report.forgetting import ForgettingResult
from mia_core.report.results import AuditResult, read_table
from mia_core.storage.store import Store
from mia_core.studies.forgetting import parse_forgetting, run_forgetting
from mia_core.types import Role

Open = Callable[..., AppTest]
HERE = Runtime(device="cpu", threads=1)
QUICK = {"epochs": 2, "learning_rate": 5e-3}
TINY: dict[str, Any] = {
    "name": "My *audit*",
    "data": {"synthetic": {"users": 120, "items": 40, "mean_history": 14, "tastes": 3}},
    "prompt": {"history": 3, "windows": 2},
    "base": {"width": 16, "layers": 2, "vocabulary": 300, "pretraining": QUICK},
    "target": {"training": {"epochs": 6, "learning_rate": 1e-2}},
    "attacks": {"names": ["loss", "target_minus_base"], "lead": "target_minus_base"},
    "evaluation": {"resamples": 100, "ranked_users": 4, "negatives": 8, "placebo": False},
}


def words(app: AppTest) -> str:
    kinds = (app.title, app.subheader, app.markdown, app.text, app.caption, app.info, app.warning, app.error)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def no_fault(app: AppTest) -> None:
    assert not app.exception
    assert "fault of ours" not in words(app)


@pytest.fixture
def audited(store: Store) -> AuditResult:
    return run_audit(parse_experiment(TINY), store, runtime=HERE)


@pytest.fixture
def checked(store: Store) -> ForgettingResult:
    document = {"name": "Who *left*", "experiment": TINY, "methods": ["nothing", "retraining"]}
    return run_forgetting(parse_forgetting(document), store, runtime=HERE)


def test_without_an_audit_it_leads_to_one(open_page: Open) -> None:
    app = open_page("forgetting")
    no_fault(app)
    assert "Run one first" in words(app)


def test_a_check_is_launched_with_what_was_chosen(open_page: Open, audited: AuditResult, store: Store) -> None:
    app = open_page("forgetting", audit=audited.key)
    app.slider("forget_share").set_value(20).run()
    app.slider("forget_margin").set_value(30).run()
    no_fault(app)
    app.button("launch_forgetting").click().run()
    no_fault(app)
    (job,) = Queue(store.home).jobs()
    assert job.kind == "forget"
    document = parse_forgetting(job.payload["forgetting"])
    assert (document.forget, document.margin, document.seeds) == (0.2, 0.3, 5)
    assert set(document.methods) == {"nothing", "gradient_ascent", "teacher_student", "retraining"}


def test_single_members_are_named(open_page: Open, audited: AuditResult, store: Store) -> None:
    folder = store.find(audited.key)
    assert folder is not None
    users = read_table(folder, "users")
    member = users.filter(users["role"] == Role.AUDITED_MEMBER)["user"][0]
    app = open_page("forgetting", audit=audited.key)
    app.segmented_control("forget_who").set_value("ids").run()
    assert "Name at least one member" in words(app)
    app.text_area("forget_ids").input(f" {member} \n\n").run()
    app.button("launch_forgetting").click().run()
    no_fault(app)
    (job,) = Queue(store.home).jobs()
    assert parse_forgetting(job.payload["forgetting"]).forget == (member,)


def test_a_finished_check_says_who_is_forgotten(open_page: Open, checked: ForgettingResult, store: Store) -> None:
    app = open_page("forgetting", check=checked.key)
    no_fault(app)
    assert "Has it forgotten?" in words(app)
    assert "Nothing (control)" in words(app)
    assert "of the time of training anew" in words(app)
    assert "not with 0.5" in words(app)
    app.button("delete_forgetting").click().run()
    no_fault(app)
    assert not store.entries("forgetting")


def test_an_unknown_check_is_explained(open_page: Open) -> None:
    app = open_page("forgetting", check="0" * 64)
    no_fault(app)
    assert "not in this store" in words(app)
