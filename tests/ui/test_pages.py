"""Every page, for empty, running, failed and finished stores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from mia_core.data import library, synthetic
from mia_core.experiment import Experiment, Synthetic, load_experiment, to_toml
from mia_core.jobs.queue import Queue
from mia_core.report.results import AuditResult
from mia_core.store import Store

Open = Callable[..., AppTest]
FORBIDDEN = ("proves", "no leakage", "compliant", "Traceback")


def words(app: AppTest) -> str:
    """Everything a reader sees as text."""
    kinds = (
        app.title,
        app.subheader,
        app.markdown,
        app.text,
        app.caption,
        app.info,
        app.warning,
        app.error,
        app.success,
    )
    shown = [element.value for kind in kinds for element in kind]
    shown += [element.proto.body for element in app.get("html")]
    shown += [f"{metric.label} {metric.value}" for metric in app.metric]
    return "\n".join(str(text) for text in shown)


def no_fault(app: AppTest) -> None:
    assert not app.exception
    assert "fault of ours" not in words(app)
    assert not any(word in words(app) for word in FORBIDDEN)


@pytest.mark.parametrize("page", ["start", "data", "audit", "results", "lookup"])
def test_every_page_of_an_empty_store_says_what_to_do(page: str, open_page: Open) -> None:
    app = open_page(page)
    no_fault(app)
    assert len(app.title) == 1
    if page in ("results", "lookup"):
        assert "demo" in words(app)


def test_the_demo_is_one_click(open_page: Open, store: Store) -> None:
    app = open_page()
    app.button("run_demo").click().run()
    (job,) = Queue(store.home).jobs()
    assert (job.kind, job.name, job.state) == ("audit", "Demo", "queued")
    assert app.query_params["job"] == job.id
    no_fault(app)
    assert "Cancel" in [button.label for button in app.button]


def test_a_running_job_shows_its_stage_and_the_time_left(open_page: Open, store: Store) -> None:
    queue = Queue(store.home)
    job = queue.submit("audit", "My audit", {})
    queue.claim()
    stages = [{"name": "Fine-tune the target", "seconds": 60, "state": "running"}]
    queue.report(job.id, "Fine-tune the target", stages, 0.4, 125.0)
    app = open_page("audit", job=job.id)
    no_fault(app)
    progress = app.get("progress")[0].proto
    assert progress.value == 40
    assert progress.text == "Fine-tune the target · about 2 minutes left"
    app.button(f"cancel_{job.id}").click().run()
    assert queue.get(job.id).cancel_asked


def test_a_failed_job_says_why_and_goes_on_from_there(open_page: Open, store: Store) -> None:
    queue = Queue(store.home)
    job = queue.submit("audit", "My audit", {"experiment": {}})
    queue.claim()
    queue.fail(job.id, "line 7, column rating: **bold** is not a number")
    app = open_page("audit", job=job.id)
    no_fault(app)
    assert "line 7, column rating: **bold** is not a number" in [text.value for text in app.text]
    app.button(f"retry_{job.id}").click().run()
    assert [j.state for j in queue.jobs()] == ["queued", "failed"]


def test_an_unknown_job_in_the_address_is_explained(open_page: Open) -> None:
    app = open_page("audit", job="gone")
    no_fault(app)
    assert "not known here" in words(app)


def test_results_lead_with_plain_words_and_intervals(open_page: Open, saved: AuditResult) -> None:
    app = open_page("results")
    no_fault(app)
    assert "Given one member and one held-out user" in words(app)
    auc = saved.metric("distillation", "auc")
    assert auc is not None
    assert f"AUC {auc.value:.3f}" in words(app)
    assert f"95% interval {auc.low:.3f}–{auc.high:.3f}" in words(app)
    # 70 audited held-out users cannot resolve 1%.
    assert "At 1% false alarms –" in words(app)
    assert "299" in words(app)
    assert app.query_params["audit"] == saved.key


def test_the_user_table_is_filtered_by_id(open_page: Open, saved: AuditResult) -> None:
    app = open_page("results")
    app.text_input("user_search").input("00123").run()
    tables = [frame.value for frame in app.dataframe if "user" in frame.value.columns]
    assert tables[0]["user"].tolist() == ["00123"]


@pytest.mark.parametrize(
    ("user", "said"),
    [("00123", "more member-like than"), ("k0", "Nothing was found"), ("123", "Nothing was found"), ("pc 0", "audit")],
)
def test_a_user_is_looked_up_by_the_exact_id(user: str, said: str, open_page: Open, saved: AuditResult) -> None:
    app = open_page("lookup", audit=saved.key, user=user)
    no_fault(app)
    assert said in words(app)


def test_a_pasted_history_becomes_a_background_job(open_page: Open, saved: AuditResult, store: Store) -> None:
    app = open_page("lookup", audit=saved.key)
    app.segmented_control("lookup_way").set_value("history").run()
    app.text_area("pasted_history").input("Alien (1979)\n\n  Heat (1995) \n")
    next(b for b in app.button if b.label == "Score this history").click().run()
    no_fault(app)
    (job,) = Queue(store.home).jobs()
    assert job.payload == {"audit": saved.key, "history": ["Alien (1979)", "Heat (1995)"]}
    assert app.query_params["job"] == job.id


def test_an_audit_that_is_gone_is_explained(open_page: Open, saved: AuditResult) -> None:
    app = open_page("results", audit="f" * 64)
    no_fault(app)
    assert "not in this store" in words(app)


def test_a_saved_data_set_is_offered_and_launched(open_page: Open, store: Store) -> None:
    data = synthetic.generate(Synthetic(users=60, items=40), 0)
    key = library.save(store, data, "My [films](http://x)")
    app = open_page("audit", data=key)
    no_fault(app)
    assert app.selectbox("audit_data").value == key
    app.text_input("audit_name").input("First try").run()
    app.button("launch").click().run()
    (job,) = Queue(store.home).jobs()
    assert job.name == "First try"
    assert job.payload["experiment"]["data"]["key"] == key


def test_a_setting_out_of_range_names_its_field(open_page: Open) -> None:
    app = open_page("audit")
    app.number_input("split.public_share").set_value(1.0).run()
    no_fault(app)
    assert "public_share" in words(app)


def test_what_the_form_shows_as_toml_is_the_same_audit(tmp_path: Path) -> None:
    experiment = Experiment.model_validate(
        {
            "name": 'A "quoted" name',
            "seed": 3,
            "target": {"tuning": "lora", "training": {"epochs": 2}},
            "attacks": {"names": ["loss"], "lead": "loss"},
        }
    )
    path = tmp_path / "audit.toml"
    path.write_text(to_toml(experiment))
    assert load_experiment(path) == experiment


def test_built_in_data_can_be_made_and_saved(open_page: Open, store: Store) -> None:
    app = open_page("data")
    app.segmented_control("data_way").set_value("built-in").run()
    app.number_input("synthetic.users").set_value(50).run()
    no_fault(app)
    assert "Users 50" in words(app)
    app.text_input("data_name").input("Fifty").run()
    app.button("save_data").click().run()
    assert [entry.name for entry in library.saved(store)] == ["Fifty"]
    assert [title.value for title in app.title] == ["Audit"]


def test_a_folder_of_this_machine_is_previewed_and_its_columns_can_be_corrected(
    open_page: Open, store: Store, tmp_path: Path
) -> None:
    rows = "\n".join(f"00{u},film {i},x" for u in range(3) for i in range(4))
    (tmp_path / "odd.csv").write_text(f"person,thing,junk\n{rows}\n")
    app = open_page("data")
    app.segmented_control("data_way").set_value("folder").run()
    app.text_input("machine_path").input(str(tmp_path / "odd.csv")).run()
    no_fault(app)
    assert "No column looks like the user" in words(app)
    app.selectbox("map_user").select("person").run()
    app.selectbox("map_item").select("thing").run()
    no_fault(app)
    assert "Users 3" in words(app)


def test_a_damaged_file_is_explained_and_nothing_is_lost(open_page: Open, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"PK\x03\x04 whatever")
    app = open_page("data")
    app.segmented_control("data_way").set_value("folder").run()
    app.text_input("machine_path").input(str(tmp_path / "x.csv")).run()
    no_fault(app)
    assert "zip archive" in words(app)
