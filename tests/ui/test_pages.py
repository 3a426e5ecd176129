"""Every page, for empty, running, failed and finished stores."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from mia_core import limits
from mia_core.attacks.catalogue import ATTACKS, GROUPS
from mia_core.audit import estimate
from mia_core.data import library, synthetic
from mia_core.data.formats import FORMATS
from mia_core.data.interactions import Interactions, validate
from mia_core.data.opening import open_interactions
from mia_core.experiment import Experiment, Synthetic, load_experiment, parse_experiment, to_toml
from mia_core.jobs.queue import Queue
from mia_core.limits import Turnstile
from mia_core.pipeline import summarise
from mia_core.report.results import AttackComparison, AuditResult, Claims
from mia_core.storage import journal
from mia_core.storage.store import Store
from mia_core.types import Gate, Metric
from mia_core.ui import frame
from mia_core.ui.attack_choice import PRESETS

Open = Callable[..., AppTest]
OF_ITEMS_ALONE = set(GROUPS["recommenders"].attacks) - {"shadow_free", "list_popularity"}
"""Attacks that a language model cannot be put to: they need a recommender that ranks items."""
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


ALL_OPENED = """
import sys
sys.path.insert(0, {root!r})
from streamlit.testing.v1 import AppTest
from mia_core import example
from mia_core.report.methods import KINDS
from mia_core.ui import frame
audit = {{"audit": example.audit_keys()[0]}}
for name, asked in [*((name, audit) for name in frame.PAGES), *(("methods", {{"kind": kind}}) for kind in KINDS)]:
    page = AppTest.from_file(f"{{frame.ROOT}}/pages/{{name}}.py", default_timeout=60)
    page.query_params.update(asked)
    page.run()
    assert page.title and not page.exception, (name, page.exception)
    loaded = [library for library in ("torch", "transformers", "peft", "ray") if library in sys.modules]
    assert not loaded, (name, loaded)
"""


def test_no_page_loads_what_computes_models(tmp_path: Path) -> None:
    """Whoever opens it first would wait for seconds, and the server hold hundreds of megabytes from then on."""
    environment = {**os.environ, "MIA_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    code = ALL_OPENED.format(root=str(frame.ROOT))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=frame.ROOT)
    assert done.returncode == 0, done.stderr[-2_000:]


@pytest.mark.parametrize(
    "page", ["start", "data", "audit", "results", "lookup", "list", "studies", "methods", "responsible"]
)
def test_every_page_of_an_empty_store_says_what_to_do(page: str, open_page: Open) -> None:
    app = open_page(page)
    no_fault(app)
    assert len(app.title) == 1
    if page in ("results", "lookup", "list"):
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
    app = open_page("running", job=job.id)
    no_fault(app)
    progress = app.get("progress")[0].proto
    assert progress.value == 40
    assert progress.text == "Fine-tune the target · about 2 minutes left"
    app.button(f"cancel_{job.id}").click().run()
    assert queue.get(job.id).cancel_asked


def test_a_waiting_job_says_how_many_are_before_it(open_page: Open, store: Store) -> None:
    queue = Queue(store.home)
    first, second, third = (queue.submit("audit", f"Audit {i}", {"seed": i}) for i in range(3))
    queue.claim()
    queue.report(first.id, "Fine-tune the target", [], 0.4, 125.0)
    said = [open_page("running", job=job.id).get("progress")[0].proto.text for job in (second, third)]
    assert said == ["Waiting for its turn, after 1 other", "Waiting for its turn, after 2 others"]
    queue.cancel(second.id)
    assert open_page("running", job=third.id).get("progress")[0].proto.text == "Waiting for its turn, after 1 other"


def test_a_failed_job_says_why_and_goes_on_from_there(open_page: Open, store: Store) -> None:
    queue = Queue(store.home)
    job = queue.submit("audit", "My audit", {"experiment": {}})
    queue.claim()
    queue.fail(job.id, "line 7, column rating: **bold** is not a number")
    app = open_page("running", job=job.id)
    no_fault(app)
    assert "line 7, column rating: **bold** is not a number" in [text.value for text in app.text]
    app.button(f"retry_{job.id}").click().run()
    assert [j.state for j in queue.jobs()] == ["queued", "failed"]


def test_an_unknown_job_in_the_address_is_explained(open_page: Open) -> None:
    app = open_page("running", job="gone")
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
    assert "Found at 1% false alarms –" in words(app)
    assert "299" in words(app)
    assert app.query_params["audit"] == saved.key


@pytest.mark.parametrize(
    ("user", "said"),
    [("00123", "more member-like than"), ("k0", "Nothing was found"), ("123", "Nothing was found"), ("pc 0", "audit")],
)
def test_a_user_is_looked_up_by_the_exact_id(user: str, said: str, open_page: Open, saved: AuditResult) -> None:
    app = open_page("lookup", audit=saved.key, user=user)
    no_fault(app)
    assert said in words(app)


def test_more_lookups_than_a_minute_grants_are_refused_with_the_reason(
    open_page: Open, saved: AuditResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame, "LOOKUPS", Turnstile(limits.LOOKUPS, "lookups"))
    monkeypatch.setenv(limits.LOOKUPS.variable, "1")
    assert "more member-like than" in words(open_page("lookup", audit=saved.key, user="00123"))
    refused = words(open_page("lookup", audit=saved.key, user="pc 0"))
    assert limits.LOOKUPS.variable in refused
    assert "The answer" not in refused


@pytest.mark.parametrize(
    ("page", "field", "asks"),
    [("list", "cohort_ids", "Judge this list"), ("lookup", "pasted_history", "Score this history")],
)
def test_lists_and_histories_are_lookups_too(
    page: str,
    field: str,
    asks: str,
    open_page: Open,
    saved: AuditResult,
    store: Store,
    users_table: pl.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frame, "LOOKUPS", Turnstile(limits.LOOKUPS, "lookups"))
    monkeypatch.setenv(limits.LOOKUPS.variable, "1")
    lines = users_table.filter(pl.col("role") == "audited_member")["user"].to_list()[10:40]

    def ask(first: int) -> str:
        app = open_page(page, audit=saved.key)
        if page == "lookup":
            app.segmented_control("lookup_way").set_value("history").run()
        app.text_area(field).input("\n".join(lines[first:]))
        next(button for button in app.button if button.label == asks).click().run()
        said = words(app)
        # Drawn once more, it is no other question.
        app.run()
        return said

    assert limits.LOOKUPS.variable not in ask(0)
    assert limits.LOOKUPS.variable in ask(1)
    assert len(Queue(store.home).jobs()) == (page == "lookup")
    noted = [(event.what, event.about) for event in journal.read(store.home)]
    assert noted == [("list looked up", {"audit": saved.key, "people": 30})] * (page == "list")


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
    app.selectbox("chosen_audit").select(saved.key).run()
    no_fault(app)
    assert "not in this store" not in words(app)
    assert app.query_params["audit"] == saved.key


def test_a_cancelled_lookup_asks_for_the_history_again(open_page: Open, saved: AuditResult, store: Store) -> None:
    queue = Queue(store.home)
    job = queue.submit("lookup", "Lookup of a pasted history", {"audit": saved.key, "history": ["Heat (1995)"]})
    queue.cancel(job.id)
    app = open_page("lookup", audit=saved.key, job=job.id)
    no_fault(app)
    assert "This lookup of a history was cancelled. The history was erased; paste it again" in words(app)
    assert not any(button.key == f"retry_{job.id}" for button in app.button)


@pytest.mark.parametrize("page", ["start", "running", "lookup"])
def test_a_job_of_another_kind_in_the_address_is_explained(
    page: str, open_page: Open, saved: AuditResult, store: Store
) -> None:
    queue = Queue(store.home)
    job = queue.submit("audit" if page == "lookup" else "lookup", "Other", {"audit": saved.key})
    queue.claim()
    queue.finish(job.id, saved.key)
    app = open_page(page, job=job.id)
    no_fault(app)
    assert "not known here" in words(app)


def test_the_answer_to_a_history_is_not_shown_under_another_audit(
    open_page: Open, saved: AuditResult, store: Store
) -> None:
    queue = Queue(store.home)
    job = queue.submit("lookup", "Lookup of a pasted history", {"audit": "f" * 64, "history": ["Heat (1995)"]})
    queue.claim()
    queue.finish(job.id, "e" * 64)
    app = open_page("lookup", audit=saved.key, job=job.id)
    no_fault(app)
    assert "scored against another audit" in words(app)


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


def test_an_audit_whose_data_went_is_run_again(open_page: Open, saved: AuditResult, store: Store) -> None:
    key, queue = library.save(store, synthetic.generate(Synthetic(users=60, items=40), 0), "Films"), Queue(store.home)
    for finished in range(2):
        app = open_page("audit", data=key)
        app.button("launch").click().run()
        no_fault(app)
        assert [job.state for job in queue.jobs()] == ["queued", *["finished"] * finished]
        job = queue.claim()
        assert job is not None
        queue.finish(job.id, saved.key)


def test_a_setting_out_of_range_names_its_field(open_page: Open) -> None:
    app = open_page("audit")
    app.number_input("split.public_share").set_value(1.0).run()
    no_fault(app)
    assert "public_share" in words(app)


@pytest.mark.parametrize(
    "document",
    [
        {
            "name": 'A "quoted" name',
            "seed": 3,
            "target": {"tuning": "lora", "training": {"epochs": 2}},
            "attacks": {"names": ["loss"], "lead": "loss"},
        },
        # What language models start from is no default of another kind of target.
        {
            "base": {"family": "sasrec"},
            "prompt": {"history": 8},
            "attacks": Experiment().attacks.model_dump(),
            "evaluation": {"map_users": 0},
        },
        {"target": {"source": "recommender"}, "attacks": {"names": ["list_hit"], "lead": "list_hit"}},
    ],
)
def test_what_the_form_shows_as_toml_is_the_same_audit(document: dict[str, Any], tmp_path: Path) -> None:
    experiment = Experiment.model_validate(document)
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
    assert "0 of 3 users have the 9 interactions" in words(app)
    assert "too few" in words(app)


def test_a_damaged_file_is_explained_and_nothing_is_lost(open_page: Open, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"PK\x03\x04 whatever")
    app = open_page("data")
    app.segmented_control("data_way").set_value("folder").run()
    app.text_input("machine_path").input(str(tmp_path / "x.csv")).run()
    no_fault(app)
    assert "zip archive" in words(app)


def launched(app: AppTest, store: Store) -> dict[str, Any]:
    """The attacks section of the audit that the form launches."""
    app.button("launch").click().run()
    no_fault(app)
    section: dict[str, Any] = Queue(store.home).jobs()[0].payload["experiment"]["attacks"]
    return section


def test_a_set_of_attacks_is_one_click_and_each_can_be_taken_off(open_page: Open, store: Store) -> None:
    app = open_page("audit")
    assert app.segmented_control("attack_preset").value == "Quick"
    assert not any(box.label == "Shadow models" for box in app.number_input)
    app.segmented_control("attack_preset").set_value("Everything").run()
    app.number_input("shadows").set_value(7).run()
    app.checkbox("attack.poisoning").uncheck().run()
    no_fault(app)
    assert app.segmented_control("attack_preset").value is None
    section = launched(app, store)
    assert section["shadows"] == 7
    assert set(section["names"]) == set(ATTACKS) - {"poisoning"} - OF_ITEMS_ALONE


@pytest.mark.parametrize("preset", PRESETS["language"])
def test_every_set_of_attacks_can_be_launched(preset: str, open_page: Open, store: Store) -> None:
    app = open_page("audit")
    app.segmented_control("attack_preset").set_value(preset).run()
    assert set(launched(app, store)["names"]) == set(PRESETS["language"][preset][1]) - OF_ITEMS_ALONE


def test_whole_groups_are_ticked_and_cleared(open_page: Open, store: Store) -> None:
    app = open_page("audit")
    app.button("attack_group.trained.Tick none").click().run()
    app.button("attack_group.perturbed.Tick all").click().run()
    names = launched(app, store)["names"]
    assert set(GROUPS["perturbed"].attacks) <= set(names)
    assert not set(GROUPS["trained"].attacks) & set(names)


def test_no_attack_at_all_is_asked_about_instead_of_launched(open_page: Open) -> None:
    app = open_page("audit")
    for group in GROUPS:
        app.button(f"attack_group.{group}.Tick none").click().run()
    no_fault(app)
    assert "Choose at least one attack" in words(app)


def test_only_changed_settings_of_chosen_attacks_reach_the_audit(open_page: Open, store: Store) -> None:
    app = open_page("audit")
    app.segmented_control("attack_preset").set_value("Everything").run()
    app.number_input("attack.min_k.settings.share").set_value(0.1).run()
    app.selectbox("attack.gradient_norm.settings.norm").select("max").run()
    app.number_input("attack.rmia.settings.a").set_value(0.5).run()
    app.number_input("attack.hidden.settings.width").set_value(8).run()
    app.checkbox("attack.hidden").uncheck().run()
    settings = launched(app, store)["settings"]
    assert settings == {"min_k": {"share": 0.1}, "gradient_norm": {"norm": "max"}, "rmia": {"a": 0.5}}


def test_more_attacks_are_expected_to_take_longer(open_page: Open) -> None:
    app = open_page("audit")

    def told() -> str:
        return next(text.value for text in app.markdown if "as it is now" in text.value)

    quick = told()
    app.segmented_control("attack_preset").set_value("Everything").run()
    assert told() != quick


def test_lists_of_numbers_are_entered_between_commas(open_page: Open, store: Store) -> None:
    app = open_page("audit")
    app.text_input("views.noise").input("0.2, 0.4, 1").run()
    app.button("launch").click().run()
    assert Queue(store.home).jobs()[0].payload["experiment"]["views"]["noise"] == [0.2, 0.4, 1.0]
    app = open_page("audit")
    app.text_input("views.noise").input("loud").run()
    no_fault(app)
    assert "noise" in words(app)


def test_attacks_at_chance_are_named_as_such(open_page: Open, saved: AuditResult) -> None:
    app = open_page("results", view="Attacks")
    assert "1 attack is at chance: Loss." in words(app)


def test_many_attacks_are_shown_by_group_and_their_table_is_filtered(
    open_page: Open,
    make_result: Callable[..., AuditResult],
    save_audit: Callable[[AuditResult], AuditResult],
) -> None:
    plain = make_result()
    copies = range(20)
    attacks = [
        dataclasses.replace(plain.attacks[0], name=f"copy {i}", title=f"Copy {i}", group=f"Group {i % 2}")
        for i in copies
    ]
    metrics = [
        dataclasses.replace(metric, attack=f"copy {i}")
        for i in copies
        for metric in plain.metrics
        if metric.attack == "loss"
    ]
    rows = [AttackComparison(f"copy {i}", 0.5, -0.4, -0.5, -0.3) for i in copies]
    claims = Claims(0.05, 3, 3, "Few.", 0.1, 2.5, [], rows, "")
    save_audit(
        dataclasses.replace(
            plain, attacks=[*plain.attacks, *attacks], metrics=[*plain.metrics, *metrics], claims=claims
        )
    )
    app = open_page("results")
    no_fault(app)
    assert "Can be named as members 3 users" in words(app)
    assert "Group 0: Copy 0" in app.selectbox("roc_attack").options
    app.segmented_control("view").set_value("Attacks").run()
    assert "20 attacks are at chance" in words(app) or "21 attacks are at chance" in words(app)
    app.segmented_control("attacks_shown").set_value("By group").run()
    app.multiselect("attack_groups").set_value(["Group 1"]).run()
    no_fault(app)
    assert "**Group 1**" in words(app)
    (table,) = [frame.value for frame in app.dataframe if "Adjusted p" in frame.value.columns]
    assert len(table) == 10
    assert set(table["Group"]) == {"Group 1"}
    assert table["AUC minus the lead's"].tolist()[0] == "-0.400 (-0.500 to -0.300)"


def test_a_prior_is_the_readers_and_none_is_suggested(open_page: Open, saved: AuditResult) -> None:
    app = open_page("lookup", audit=saved.key, user="00123")
    assert app.select_slider("prior").value is None
    assert "reader's choice" not in words(app)
    app.select_slider("prior").set_value(0.01).run()
    no_fault(app)
    assert "Before 1%" in words(app)
    assert "The 1% are the reader's choice" in words(app)


def test_a_known_user_gets_no_prior_to_choose(open_page: Open, saved: AuditResult) -> None:
    app = open_page("lookup", audit=saved.key, user="kr 5")
    no_fault(app)
    assert "No prior is needed" in words(app)
    assert not app.select_slider


def test_a_list_of_users_is_judged_together(
    open_page: Open, saved: AuditResult, users_table: pl.DataFrame, store: Store
) -> None:
    members = users_table.filter(pl.col("role") == "audited_member")["user"].to_list()[10:40]
    app = open_page("list", audit=saved.key)
    app.text_area("cohort_ids").input("\n".join(members))
    next(button for button in app.button if button.label == "Judge this list").click().run()
    no_fault(app)
    assert "this list looks trained on" in words(app)
    assert "Users on the list 30" in words(app)
    assert "same people" in words(app)
    assert members[0] not in words(app)
    known = users_table.filter(pl.col("role") == "known_member")["user"].to_list()[:6]
    app.text_area("cohort_ids").input("\n".join(known))
    next(button for button in app.button if button.label == "Judge this list").click().run()
    no_fault(app)
    assert "6 known users" in words(app)
    assert "looks trained on" not in words(app)


def reseeded(result: AuditResult, seed: int, auc: float) -> AuditResult:
    """The same audit under another seed, with another AUC of its lead attack."""
    metrics = [
        dataclasses.replace(metric, value=auc) if (metric.attack, metric.metric) == (result.lead, "auc") else metric
        for metric in result.metrics
    ]
    config = {**result.config, "seed": seed}
    return dataclasses.replace(result, key=f"{seed:064x}", name=f"Seeds: {seed}", config=config, metrics=metrics)


def test_other_seeds_stand_beside_the_interval(
    open_page: Open, saved: AuditResult, save_audit: Callable[..., AuditResult]
) -> None:
    save_audit(reseeded(saved, 8, 0.8), "point")
    save_audit(reseeded(saved, 9, 0.7), "point")
    app = open_page("results")
    no_fault(app)
    auc = saved.metric("distillation", "auc")
    assert auc is not None
    assert f"3 seeds 0.700–{auc.value:.3f}, standard deviation" in words(app)
    assert "Run with 3 seeds, this one included" in words(app)
    assert not any(button.key == "repeat_seeds" for button in app.button)


def test_an_audit_of_one_seed_is_repeated_in_the_background(open_page: Open, saved: AuditResult, store: Store) -> None:
    app = open_page("results")
    assert "it is not known how far chance in drawing users, splitting and training moves" in words(app)
    assert f"python -m mia_core study --repeat {saved.key[:12]}" in words(app)
    app.button("repeat_seeds").click().run()
    no_fault(app)
    (job,) = Queue(store.home).jobs()
    assert job.kind == "study"
    assert job.payload["study"]["vary"] == {"seed": [0, 1, 2]}
    assert [title.value for title in app.title] == ["Studies"]
    assert app.query_params["job"] == job.id
    # As long as it goes on, nobody starts it a second time.
    app = open_page("results")
    no_fault(app)
    assert not any(button.key == "repeat_seeds" for button in app.button)
    assert "Other seeds are being run" in [link.proto.label for link in app.get("page_link")]


def test_what_is_not_valid_or_of_another_version_is_not_repeated(
    open_page: Open, make_result: Callable[..., AuditResult], save_audit: Callable[..., AuditResult]
) -> None:
    plain = make_result()
    old = save_audit(make_result(config={**plain.config, "forgotten": 1}))
    app = open_page("results", audit=old.key)
    no_fault(app)
    assert "cannot be repeated as it was" in words(app)
    failed = [Gate("null", False, 0.9, 0.001, 140, "It failed.", "Look at the split.")]
    invalid = save_audit(make_result(key="f" * 64, gates=failed))
    app = open_page("results", audit=invalid.key)
    no_fault(app)
    assert "other seed" not in words(app)
    assert not any(button.key == "repeat_seeds" for button in app.button)


def test_a_rate_has_the_limit_of_its_false_alarms_beside_it(open_page: Open, saved: AuditResult) -> None:
    app = open_page("results", view="Attacks")
    rate = saved.metric("distillation", "tpr_at_fpr_0.05")
    assert rate is not None
    assert rate.fpr_limit is not None
    (limit,) = re.findall(r"False alarms among all such users: at most ([\d.]+)%, with 95% confidence", words(app))
    assert 0 <= float(limit) - 100 * rate.fpr_limit < 0.1
    (table,) = [frame.value for frame in app.dataframe if "Found at 5% false alarms" in frame.value.columns]
    cells = dict(zip(table["Attack"], table["Found at 5% false alarms"], strict=True))
    assert cells["Distillation (lead)"].endswith(f"FPR ≤ {limit}%")


def test_points_of_studies_are_opened_by_their_address_and_not_offered_among_audits(
    open_page: Open, saved: AuditResult, save_audit: Callable[..., AuditResult]
) -> None:
    point = save_audit(reseeded(saved, 8, 0.8), "point")
    app = open_page("results")
    assert app.query_params["audit"] == saved.key
    assert not app.selectbox or "chosen_audit" not in [box.key for box in app.selectbox]
    for page in ("results", "lookup", "list"):
        app = open_page(page, audit=point.key)
        no_fault(app)
        assert len(app.selectbox("chosen_audit").options) == 2
        assert "not in this store" not in words(app)
        app.selectbox("chosen_audit").select(saved.key).run()
        no_fault(app)
        assert app.query_params["audit"] == saved.key


def test_the_start_page_lists_audits_and_no_points_of_studies(
    open_page: Open, saved: AuditResult, save_audit: Callable[..., AuditResult], store: Store
) -> None:
    queue = Queue(store.home)
    for kind, result in (("audit", saved), ("study", save_audit(reseeded(saved, 8, 0.8), "point"))):
        job = queue.submit(kind, result.name, {})
        queue.claim()
        queue.finish(job.id, result.key)
    app = open_page("start")
    assert "Tiny audit" in [text.value for text in app.text]
    assert "Seeds: 8" not in words(app)


def example(app: AppTest, store: Store) -> Experiment:
    """The audit that the form launches, which is also the one that it shows for the command line."""
    (shown,) = [block.value for block in app.code if block.language == "toml"]
    app.button("launch").click().run()
    no_fault(app)
    launched = parse_experiment(Queue(store.home).jobs()[0].payload["experiment"])
    assert parse_experiment(tomllib.loads(shown)) == launched
    return launched


def test_a_sequence_recommender_is_set_up_in_its_own_words(open_page: Open, store: Store) -> None:
    app = open_page("audit")
    app.selectbox("model_source").select("sequence").run()
    no_fault(app)
    assert "style" not in [control.key for control in app.segmented_control]
    assert "attack.poisoning" not in [box.key for box in app.checkbox]
    assert "Needs a question in words" in words(app)
    app.segmented_control("sequence_family").set_value("xlnet").run()
    app.segmented_control("start").set_value("scratch").run()
    app.slider("sequence_epochs").set_value(40).run()
    # What equals the setting of a language model is no less a choice here.
    app.number_input("sequence.prompt.history").set_value(8).run()
    app.number_input("sequence.evaluation.map_users").set_value(0).run()
    found = example(app, store)
    assert (found.kind, found.base.family, found.target.start) == ("sequence", "xlnet", "scratch")
    assert found.target.training.epochs == 40
    assert (found.prompt.style, found.prompt.history, found.evaluation.map_users) == ("whole_history", 8, 0)
    assert found.attacks.lead == "sequence_mlp"
    assert found.name == "Built-in data, XLNet"


def test_a_classic_recommender_and_the_auditors_own_one_are_set_up(open_page: Open, store: Store) -> None:
    app = open_page("audit")
    app.selectbox("model_source").select("recommender").run()
    no_fault(app)
    assert "attack.loss" not in [box.key for box in app.checkbox]
    assert "this recommender shows lists alone" in words(app)
    # The built-in catalogue is small: a list of a hundred would be a third of it.
    (length,) = [box for box in app.number_input if box.label == "Length of a list"]
    assert length.value == 50
    length.set_value(20).run()
    app.segmented_control("recommender_kind").set_value("neural").run()
    app.number_input("recommender.50.factors").set_value(16).run()
    app.number_input("recommender.50.candidates").set_value(60).run()
    app.number_input("recommender.other.negatives").set_value(3).run()
    app.selectbox("shadow_kind").select("item_based").run()
    found = example(app, store)
    assert found.kind == "recommender"
    assert (found.recommender.kind, found.recommender.factors, found.recommender.negatives) == ("neural", 16, 3)
    own = found.shadow_recommender
    assert (own.kind, own.length, own.candidates) == ("item_based", 20, 60)
    assert found.split.public_share == 0.5
    assert (found.prompt.style, found.attacks.lead) == ("whole_history", "biased_mia")
    assert {"biased_mia", "biased_mia_published", "list_popularity_published"} <= set(found.attacks.names)


def test_lists_drawn_from_too_few_items_are_explained(open_page: Open) -> None:
    app = open_page("audit")
    app.selectbox("model_source").select("recommender").run()
    app.number_input("recommender.50.candidates").set_value(10).run()
    no_fault(app)
    assert "candidates is 10; a list of 50 is drawn from them" in words(app)


def test_another_kind_of_model_begins_with_its_own_attacks(open_page: Open, store: Store) -> None:
    app = open_page("audit")
    app.checkbox("attack.zlib").check().run()
    app.selectbox("model_source").select("recommender").run()
    app.selectbox("model_source").select("offline").run()
    found = example(app, store)
    usual = Experiment(name=found.name)
    assert set(found.attacks.names) == set(usual.attacks.names)
    assert found.model_copy(update={"attacks": usual.attacks}) == usual
    assert found.attacks.lead == usual.attacks.lead


@pytest.mark.parametrize(
    ("source", "preset"), [(kind, preset) for kind in ("sequence", "recommender") for preset in PRESETS[kind]]
)
def test_every_set_of_attacks_of_a_kind_can_be_launched(
    source: str, preset: str, open_page: Open, store: Store
) -> None:
    app = open_page("audit")
    app.selectbox("model_source").select(source).run()
    app.segmented_control("attack_preset").set_value(preset).run()
    found = example(app, store)
    assert set(found.attacks.names) <= set(PRESETS[source][preset][1])
    assert not any(estimate.refusal(found, name) for name in found.attacks.names)


def test_a_system_that_shows_lists_alone_is_offered_attacks_on_lists(open_page: Open) -> None:
    app = open_page("audit")
    app.selectbox("model_source").select("lists").run()
    offered = {box.key for box in app.checkbox}
    assert {"attack.list_hit", "attack.shadow_free"} <= offered
    assert not offered & {"attack.loss", "attack.biased_mia"}
    app.segmented_control("style").set_value("whole_history").run()
    assert "attack.biased_mia" in {box.key for box in app.checkbox}
    app.selectbox("model_source").select("own").run()
    assert "attack.target_minus_base" in {box.key for box in app.checkbox}
    app.checkbox("no_base").check().run()
    assert "attack.target_minus_base" not in {box.key for box in app.checkbox}
    assert "attack.loss" in {box.key for box in app.checkbox}


def visits(sessions: int, timed: bool, name: str = "session_id") -> Interactions:
    """Sessions of three items each, an hour apart, all of one person where `name` is a user's."""
    rows = []
    for s in range(sessions):
        for i in range(3):
            who = f"s{s}" if name == "session_id" else f"u{s // 4}"
            rows.append((who, f"i{(s * 7 + i * 3) % 50}", None, s * 3_600 + i * 60 if timed else None))
    frame = pl.DataFrame(rows, ["user", "item", "rating", "timestamp"], orient="row")
    return validate(frame, unit="session" if name == "session_id" else "user")


def test_data_with_times_can_be_cut_into_sessions(open_page: Open, store: Store) -> None:
    key = library.save(store, visits(80, timed=True, name="user"), "Visits")
    app = open_page("audit", data=key)
    assert "sessions.gap_minutes" not in [box.key for box in app.number_input]
    app.segmented_control("unit").set_value("gap").run()
    app.number_input("sessions.gap_minutes").set_value(10.0).run()
    no_fault(app)
    assert "of one person, one session can be a member and another held out" in words(app)
    app.selectbox("model_source").select("sequence").run()
    found = example(app, store)
    assert (found.data.sessions.by, found.data.sessions.gap_minutes) == ("gap", 10.0)
    assert len(open_interactions(found.data, 0, store).frame["user"].unique()) == 80
    # A pause of half a minute leaves nobody two items in a row.
    app = open_page("audit", data=key)
    app.segmented_control("unit").set_value("gap").run()
    app.number_input("sessions.gap_minutes").set_value(0.5).run()
    no_fault(app)
    assert "no session has 2 different items" in words(app)


def test_data_without_times_are_people_and_data_of_sessions_stay_sessions(open_page: Open, store: Store) -> None:
    people = library.save(store, visits(40, timed=False, name="user"), "People")
    app = open_page("audit", data=people)
    assert "unit" not in [control.key for control in app.segmented_control]
    sessions = library.save(store, visits(40, timed=False), "Sessions")
    app = open_page("audit", data=sessions)
    no_fault(app)
    assert "unit" not in [control.key for control in app.segmented_control]
    assert "every figure of this audit is about a session" in words(app)
    assert app.selectbox("model_source").value == "sequence"
    app.number_input("sessions.longest").set_value(2).run()
    assert example(app, store).data.sessions.longest == 2


def test_a_file_of_sessions_is_recognised_and_profiled_as_such(open_page: Open, tmp_path: Path) -> None:
    rows = [f"{s},{(s * s + i) % 30},{i}" for s in range(60) for i in range(2 + s % 4)]
    (tmp_path / "sessions.csv").write_text("session_id,item_id,position\n" + "\n".join(rows))
    app = open_page("data")
    app.segmented_control("data_way").set_value("folder").run()
    app.text_input("machine_path").input(str(tmp_path)).run()
    no_fault(app)
    assert "Recognised: YooChoose sessions" in words(app)
    assert {"Sessions 60", "Median length 3.5", "Longest 5"} <= set(words(app).splitlines())
    (skew,) = [metric.value for metric in app.metric if "Gini" in metric.label]
    assert 0 < float(skew) < 1
    assert "about a session, not about a person" in words(app)
    # No session has nine items; the audit of a transformer over items needs two.
    assert "0 of 60 sessions have the 9 interactions" in words(app)
    assert "60 have the 2" in words(app)
    assert "choose another kind of recommender" in words(app)


def test_files_of_every_known_layout_can_be_uploaded(open_page: Open) -> None:
    app = open_page("data")
    accepted = app.get("file_uploader")[0].proto.type
    for layout in FORMATS.values():
        for name in layout.files:
            assert Path(name).suffix in accepted, name
    assert "RecBole atomic files" in words(app)


@pytest.fixture
def save_recommender_audit(
    make_result: Callable[..., AuditResult], save_audit: Callable[[AuditResult], AuditResult], store: Store
) -> Callable[..., AuditResult]:
    """Saves the audit of a recommender of a kind, with what such an audit has in place of features."""

    def save(document: dict[str, Any], tables: dict[str, pl.DataFrame], **changes: Any) -> AuditResult:
        plain = make_result()
        names = {"distillation": "biased_mia", "loss": "list_popularity"}
        aucs = {"biased_mia_published": 0.93, "list_popularity_published": 0.95}
        metrics = [Metric(name, "auc", auc, auc - 0.03, auc + 0.03, 140) for name, auc in aucs.items()]
        metrics += [dataclasses.replace(metric, attack=names[metric.attack]) for metric in plain.metrics]
        saved = save_audit(
            dataclasses.replace(
                plain,
                lead="biased_mia",
                config=parse_experiment(document).model_dump(mode="json"),
                attacks=[summarise(name) for name in (*names.values(), *aucs)],
                metrics=metrics,
                **changes,
            )
        )

        def write(folder: Path) -> None:
            for name in ("users", "roc"):
                table = pl.read_parquet(folder / f"{name}.parquet")
                ends = {c: old for old in names for c in table.columns if c.endswith(f".{old}")}
                renamed = table.rename({c: c.replace(old, names[old]) for c, old in ends.items()})
                if "attack" in renamed.columns:
                    renamed = renamed.with_columns(pl.col("attack").replace(names))
                renamed.write_parquet(folder / f"{name}.parquet")
            for name, table in tables.items():
                table.write_parquet(folder / f"{name}.parquet")

        store.alter(saved.key, write)
        return saved

    return save


def test_a_classic_recommenders_results_hold_no_empty_parts(
    open_page: Open, save_recommender_audit: Callable[..., AuditResult]
) -> None:
    kinds = {"user": pl.String, "role": pl.String, "model": pl.String, "feature": pl.String, "value": pl.Float64}
    tables = {"features": pl.DataFrame(schema=kinds)}
    save_recommender_audit({"target": {"source": "recommender"}}, tables, agreement=[])
    app = open_page("results")
    headings = []
    for view in app.segmented_control("view").options:
        app.segmented_control("view").set_value(view).run()
        no_fault(app)
        headings += [heading.value for heading in app.subheader]
    assert "Two ways of serving" in headings
    assert "Does it recommend?" in headings
    assert not any(part in heading for heading in headings for part in ("models show", "references agree", "map"))


def test_published_figures_stand_beside_those_with_one_recommender(
    open_page: Open, save_recommender_audit: Callable[..., AuditResult]
) -> None:
    result = save_recommender_audit({"target": {"source": "recommender"}}, {})
    app = open_page("results", view="Attacks")
    no_fault(app)
    (table,) = [frame.value for frame in app.dataframe if "As published" in frame.value.columns]
    assert table["Attack"].tolist() == ["Popularity of the list (the rule)", "Biased-MIA"]
    honest = result.metric("biased_mia", "auc")
    assert honest is not None
    assert table["One recommender for everybody"][1].startswith(f"{honest.value:.3f} ({honest.low:.3f}")
    assert table["As published"].tolist() == ["0.950 (0.920–0.980)", "0.930 (0.900–0.960)"]
    assert table["Explained by the rule"].tolist() == ["–", "yes"]
    assert "explains the published figure of: Biased-MIA" in words(app)
    assert "members are still told from others by: Biased-MIA" in words(app)


def test_a_sequence_models_map_is_drawn_two_ways(
    open_page: Open, save_recommender_audit: Callable[..., AuditResult]
) -> None:
    roles = ["audited_member", "audited_held_out"] * 3
    places = pl.DataFrame(
        {
            "user": [f"00{i}" for i in range(6)],
            "role": roles,
            "x": [0.5 * i for i in range(6)],
            "y": [1.0 - i for i in range(6)],
        }
    )
    ways = [places.with_columns(drawn_from=pl.lit(way)) for way in ("outputs", "correlation")]
    ways[1] = ways[1].with_columns(pl.col("x") + 100)
    data = {"users": 205, "items": 50, "interactions": 6000, "notes": [], "key": "da" * 32, "unit": "session"}
    save_recommender_audit({"base": {"family": "sasrec"}}, {"map": pl.concat(ways)}, data=data)
    app = open_page("map")
    no_fault(app)
    assert "how far apart two clouds lie" in words(app)

    def drawn() -> list[float]:
        charts = [chart.proto for chart in app.get("vega_lite_chart")]
        (chart,) = [found for found in charts if '"title": "session"' in found.spec]
        (data,) = [part.data.data for part in chart.datasets]
        table = pl.read_ipc_stream(data)
        assert set(table["user"]) == set(places["user"])
        return sorted(table["x"])

    assert max(drawn()) == 2.5
    app.segmented_control("from").set_value("correlation").run()
    no_fault(app)
    assert min(drawn()) == 100


def test_an_audit_is_deleted_from_the_view_that_its_address_names(
    open_page: Open, saved: AuditResult, store: Store
) -> None:
    app = open_page("results", audit=saved.key, view="Record")
    app.button("delete_audit").click().run()
    no_fault(app)
    assert store.find(saved.key) is None


def test_the_beginning_of_a_key_leads_to_its_audit(open_page: Open, saved: AuditResult) -> None:
    app = open_page("results", audit=saved.key[:12])
    no_fault(app)
    assert "not in this store" not in words(app)
    assert app.query_params["audit"] == saved.key
