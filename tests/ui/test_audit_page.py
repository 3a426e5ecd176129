"""Setting up an audit: presets, the config as text, and what it is likely to cost on this machine."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from mia_core import limits
from mia_core.attacks.catalogue import ATTACKS, GROUPS
from mia_core.audit.estimate import Rates
from mia_core.experiment import Runtime, parse_experiment, read_experiment, to_toml
from mia_core.jobs.queue import Queue
from mia_core.planning.capacity import throughput_key
from mia_core.report.results import AuditResult
from mia_core.storage.store import Store
from tests.ui.test_pages import no_fault, words

Open = Callable[..., AppTest]


def ticked(app: AppTest) -> set[str]:
    return {
        str(box.key).removeprefix("attack.") for box in app.checkbox if str(box.key).startswith("attack.") and box.value
    }


def test_a_preset_ticks_its_attacks_and_brings_its_model(open_page: Open) -> None:
    app = open_page("audit")
    quick = ticked(app)
    app.segmented_control("preset").set_value("black_box").run()
    no_fault(app)
    assert ticked(app) <= set(GROUPS["black_box"].attacks)
    assert app.query_params["preset"] == "black_box"
    app.segmented_control("preset").set_value("own").run()
    no_fault(app)
    assert app.selectbox("model_source").value == "own"
    assert "own_path" in [box.key for box in app.text_input]
    app.segmented_control("preset").set_value("thorough").run()
    assert app.selectbox("model_source").value == "offline"
    assert len(ticked(app)) > len(quick)
    app.segmented_control("preset").set_value("quick").run()
    assert ticked(app) == quick


def test_a_preset_in_the_address_is_where_the_form_begins_and_no_more(open_page: Open) -> None:
    app = open_page("audit", preset="own")
    no_fault(app)
    assert app.selectbox("model_source").value == "own"
    # What is chosen afterwards is the reader's own.
    app.selectbox("model_source").select("sequence").run()
    no_fault(app)
    assert app.selectbox("model_source").value == "sequence"


def test_a_list_in_the_uploader_is_one_file_however_often_the_page_is_drawn(
    open_page: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, members = b"user,rank,item\nAnn,1,i1\nBen,1,i2\n", b"Ann\n"
    app = open_page("audit")
    app.selectbox("model_source").select("lists").run()
    uploader = {one.key: one for one in app.get("file_uploader")}
    uploader["served_lists"].set_value([("served.csv", served, "text/csv")])
    uploader["own_members"].set_value([("members.txt", members, "text/plain")]).run()
    no_fault(app)
    app.text_input("audit_name").input("A click").run()
    no_fault(app)
    folder = store.home / "lists"
    kept = {path.suffix: path for path in folder.iterdir()}
    assert len(list(folder.iterdir())) == 2
    assert (kept[".csv"].read_bytes(), kept[".txt"].read_bytes()) == (served, members)
    assert store.size == len(served) + len(members)
    # From the name of a list that stands in a report nobody can tell who is on it.
    assert hashlib.sha256(members).hexdigest()[:16] not in kept[".txt"].name
    # A list that lost the lines of somebody who was erased is not taken for what is handed in now.
    kept[".csv"].write_bytes(served[:-9])
    app.text_input("audit_name").input("Another click").run()
    assert kept[".csv"].read_bytes() == served
    # Lists count among what one owner keeps.
    monkeypatch.setattr(limits, "GIGABYTE", 1)
    monkeypatch.setenv(limits.KEPT.variable, "40")
    app.get("file_uploader")[0].set_value([("served.csv", served + b"Cem,1,i3\n", "text/csv")]).run()
    assert limits.KEPT.variable in words(app)
    assert set(folder.iterdir()) == set(kept.values())


def test_the_text_follows_the_form_until_somebody_changes_it(open_page: Open, store: Store) -> None:
    app = open_page("audit")
    app.slider("epochs").set_value(3).run()
    assert "epochs = 3" in app.text_area("expert_toml").value
    app.text_area("expert_toml").input('name = "By hand"\nseed = 7\n[attacks]\nnames = ["loss"]\nlead = "loss"\n').run()
    no_fault(app)
    assert "This is a valid config" in words(app)
    app.slider("epochs").set_value(9).run()
    assert "By hand" in app.text_area("expert_toml").value
    app.button("launch_expert").click().run()
    no_fault(app)
    (job,) = Queue(store.home).jobs()
    launched = parse_experiment(job.payload["experiment"])
    assert (launched.name, launched.seed, launched.attacks.names) == ("By hand", 7, ("loss",))


def test_the_forms_settings_can_be_taken_again(open_page: Open) -> None:
    app = open_page("audit")
    app.text_area("expert_toml").input("seed = 3").run()
    app.button("expert_reset").click().run()
    no_fault(app)
    (shown,) = [block.value for block in app.code if block.language == "toml"]
    assert app.text_area("expert_toml").value.strip() == shown.strip()


def test_what_is_wrong_in_the_text_names_field_value_range_and_way_out(open_page: Open) -> None:
    app = open_page("audit")
    for text, said in {
        "seeed = 1": "did you mean 'seed'",
        "[split]\npublic_share = 2": "split.public_share is 2",
        '[attacks]\nnames = ["los"]': "los",
        "seed = ": "texts stand in quotes",
        '[base]\nfamily = "<b>bert</b>"': "<b>bert</b>",
    }.items():
        app.text_area("expert_toml").input(text).run()
        no_fault(app)
        assert any(said in shown.value for shown in app.text), text
        assert "launch_expert" not in [button.key for button in app.button]


def test_time_and_memory_are_told_as_the_form_changes(open_page: Open) -> None:
    app = open_page("audit")

    def told() -> str:
        return next(text.value for text in app.markdown if "as it is now" in text.value)

    small = told()
    assert "GB** of memory" in small
    app.number_input("base.width").set_value(1_024).run()
    no_fault(app)
    assert told() != small
    app.selectbox("model_source").select("hub").run()
    app.text_input("hub_id").input("google-t5/t5-small").run()
    no_fault(app)
    assert "known once the model is here" in told()


def test_what_audits_took_here_scales_the_plan(
    open_page: Open, saved: AuditResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page("audit")
    assert "so much did 1 audit take" not in words(app)
    monkeypatch.setattr("mia_core.planning.capacity.SHORTEST", 0.0)
    st.cache_data.clear()
    app = open_page("audit")
    assert "so much did 1 audit" in words(app)
    assert "take on this machine" in words(app)


def test_each_attack_leads_to_its_formula(open_page: Open) -> None:
    app = open_page("audit")
    assert "[formula](methods?method=min_k)" in words(app)
    offered = set(ATTACKS) & {str(box.key).removeprefix("attack.") for box in app.checkbox}
    assert len(offered) > 50
    assert all(f"methods?method={name})" in words(app) for name in offered)


def test_a_config_taken_from_the_text_is_the_same_audit() -> None:
    experiment = parse_experiment({"seed": 5, "attacks": {"names": ["loss"], "lead": "loss"}})
    assert read_experiment(to_toml(experiment)) == experiment


def test_a_price_becomes_money_and_a_measurement_a_nearer_estimate(
    open_page: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mia_core.ui.run_status.ensure_supervisor", lambda home: None)
    app = open_page("audit")
    assert "in money" not in words(app)
    app.number_input("price_form").set_value(3_600.0).run()
    no_fault(app)
    # Once above what takes the time, and once within: where the one covers the other it is still seen.
    assert words(app).count("in money") == 2
    assert "a rough plan" in words(app)
    assert "this machine was not measured yet" in words(app)
    app.button("measure_form").click().run()
    no_fault(app)
    (job,) = Queue(store.home).active()
    assert job.kind == "measure"
    experiment = parse_experiment(job.payload["experiment"])
    rates = json.dumps(dataclasses.asdict(Rates.guessed(experiment)))
    key = throughput_key(experiment, Runtime())
    store.build(key, "throughput", lambda folder: (folder / "rates.json").write_text(rates))  # type: ignore[arg-type, return-value]
    Queue(store.home).cancel(job.id)
    app = open_page("audit")
    assert "From what this machine was measured to do" in words(app)
    assert "within 30% on a quiet machine" in words(app)
    assert not [button for button in app.button if button.key == "measure_form"]
