from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import polars as pl
import psutil
import pytest

from mia_core import __main__ as command_line
from mia_core import __version__
from mia_core.report.results import AuditResult
from mia_core.storage.store import Store

ROOT = Path(__file__).parent.parent
TINY = """
name = "Tiny"
[data.synthetic]
users = 120
items = 40
mean_history = 12
[prompt]
history = 3
windows = 2
[base]
width = 16
layers = 2
vocabulary = 300
pretraining.epochs = 1
[target.training]
epochs = 1
[attacks]
names = ["loss", "target_minus_base"]
lead = "target_minus_base"
[evaluation]
resamples = 100
ranked_users = 0
"""


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs a command in this process."""

    def call(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["memberscope", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "160")
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            command_line.main()
        return Ran(int(stopped.value.code or 0), *capsys.readouterr())

    return call


def test_help_and_version_need_no_model_library() -> None:
    for option, expected in (
        ("--help", ("demo", "audit", "lookup", "cohort", "report", "list")),
        ("--version", (__version__,)),
    ):
        command = [sys.executable, "-X", "importtime", "-m", "mia_core", option]
        shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert shown.returncode == 0
        assert all(text in shown.stdout for text in expected)
        assert " typer\n" in shown.stderr
        assert " torch\n" not in shown.stderr


def test_an_empty_store_says_what_to_do_next(store: Store, run: Callable[..., Ran]) -> None:
    assert "Run 'demo'" in run("list").out
    for arguments in (["report", "latest"], ["lookup", "latest", "x"]):
        ran = run(*arguments)
        assert ran.code == 6
        assert "no finished audit" in ran.err


def test_list_shows_each_audit_with_its_leading_figure(saved: AuditResult, run: Callable[..., Ran]) -> None:
    ran = run("list")
    auc = saved.metric("distillation", "auc")
    assert ran.code == 0
    assert "ab1200000000" in ran.out
    assert "Tiny audit" in ran.out
    assert f"{auc.value:.3f}" in ran.out


def test_list_tells_an_audit_from_what_is_left_of_it_after_an_erasure(
    saved: AuditResult, save_audit: Callable[..., AuditResult], run: Callable[..., Ran]
) -> None:
    save_audit(dataclasses.replace(saved, key="cd34" + "0" * 60, erased=1))
    by_key = {line.split()[0]: line for line in run("list").out.splitlines() if "Tiny audit" in line}
    assert "(one person erased since)" in by_key["cd3400000000"]
    assert "erased" not in by_key["ab1200000000"]


def test_whoever_says_no_reads_that_nothing_happened(
    saved: AuditResult, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    for command, said in (("pseudonymise", "Nothing was changed."), ("remove", "Nothing was deleted.")):
        monkeypatch.setattr("typer.confirm", lambda question: False)
        ran = run(command, saved.key)
        assert ran.code == 130
        assert ran.err == f"{said}\n"
    assert saved.key[:12] in run("list").out


def test_report_shows_headline_figures_quality_and_notes(
    saved: AuditResult, run: Callable[..., Ran], tmp_path: Path
) -> None:
    ran = run("report", "ab12", "--json", tmp_path / "out.json")
    assert ran.code == 0
    assert "tells them apart" in ran.out
    for text in ("Loss", "Distillation", "TPR at 5% FPR", "HR@10", "could not be scored", "Not resolvable", "FPR ≤ "):
        assert text in ran.out
    document = json.loads((tmp_path / "out.json").read_text())
    figures = {(row["attack"], row["metric"]): row["value"] for row in document["metrics"]}
    assert figures["distillation", "auc"] == saved.metric("distillation", "auc").value
    assert figures["distillation", "tpr_at_fpr_0.001"] is None


def test_lookup_shows_the_evidence_and_its_limits(saved: AuditResult, run: Callable[..., Ran]) -> None:
    ran = run("lookup", "latest", "00123")
    assert ran.code == 0
    assert "more member-like than on" in ran.out
    assert "does not establish" in ran.out
    assert run("lookup", "latest", "123").code == 6
    assert run("lookup", "latest", "00123", "--attack", "loss").out != ran.out
    assert "[red]Ana" in run("lookup", "latest", "[red]Ana").out


def test_lookup_brings_a_prior_up_to_date_and_shows_every_attack(saved: AuditResult, run: Callable[..., Ran]) -> None:
    plain = run("lookup", "latest", "00123").out
    assert "reader's choice" not in plain
    weighed = run("lookup", "latest", "00123", "--prior", "0.1", "--every-attack").out
    assert "The 10% are the reader's choice" in weighed
    assert "times as common among members" in weighed
    assert "Loss" in weighed
    assert "smallest of many p-values" in weighed
    assert run("lookup", "latest", "00123", "--prior", "2").code == 2


def test_a_list_of_users_is_judged_together(
    saved: AuditResult, users_table: pl.DataFrame, run: Callable[..., Ran], tmp_path: Path
) -> None:
    members = users_table.filter(pl.col("role") == "audited_member")["user"].to_list()[10:40]
    ids, out = tmp_path / "ids.txt", tmp_path / "cohort.json"
    ids.write_text("\n".join(members))
    ran = run("cohort", "latest", ids, "--json", out)
    assert ran.code == 0, ran.err
    assert "this list looks trained on" in ran.out
    document = json.loads(out.read_text())
    assert document["listed"] == document["recorded_members"] == 30
    assert members[0] not in out.read_text()
    ids.write_text("nobody\n")
    refused = run("cohort", "latest", ids)
    assert refused.code == 3
    assert "not part of this audit" in refused.err
    assert run("cohort", "latest", tmp_path / "missing.txt").code == 3
    assert run("cohort", "latest", ids, "--json", tmp_path / "no" / "x.json").code == 2


def test_control_characters_never_reach_the_terminal(
    run: Callable[..., Ran],
    make_result: Callable[..., AuditResult],
    save_audit: Callable[[AuditResult], AuditResult],
) -> None:
    save_audit(make_result(name="\x1b[2Jwiped", notes=["\x1b]0;title\x07"]))
    assert not any(c in text for text in (run("list").out, run("report", "latest").out) for c in "\x1b\x07")
    assert "\x1b" not in run("lookup", "latest", "\x1b[2J").err


def test_lookup_wants_an_id_or_a_history_not_both(saved: AuditResult, run: Callable[..., Ran], tmp_path: Path) -> None:
    history = tmp_path / "history.txt"
    history.write_text("A film\n")
    assert run("lookup", "latest").code == 2
    assert run("lookup", "latest", "00123", "--history", history).code == 2
    assert run("lookup", "latest", "--history", history, "--attack", "loss").code == 2


@pytest.mark.parametrize("content", [None, b"", b"\n \n", b"\xff\xfe\x00A", b"x" * 1_000_001])
def test_an_unusable_history_is_an_error_that_says_so(
    saved: AuditResult, run: Callable[..., Ran], tmp_path: Path, content: bytes | None
) -> None:
    history = tmp_path / "history.txt"
    if content is not None:
        history.write_bytes(content)
    ran = run("lookup", "latest", "--history", history)
    assert ran.code == 3
    assert "--history" in ran.err


def test_settings_that_do_not_exist_name_the_nearest_one(store: Store, run: Callable[..., Ran], tmp_path: Path) -> None:
    config = tmp_path / "tiny.toml"
    config.write_text(TINY)
    for setting, hint in (("sed=3", "'seed'"), ("seed=-1", "seed is -1"), ("seed", "field=value")):
        ran = run("audit", config, "--set", setting)
        assert ran.code == 2
        assert hint in ran.err
    for text in ("data = 3", "[data]\npath = 3", "seed = [", "\0", "[base]\nfamily = {x = 1}"):
        config.write_text(text)
        ran = run("audit", config)
        assert ran.code == 2, ran.err
    assert run("audit", tmp_path / "missing.toml").code == 2
    assert run("audit").code == 2


def test_what_cannot_work_is_said_before_anything_runs(store: Store, run: Callable[..., Ran], tmp_path: Path) -> None:
    config = tmp_path / "tiny.toml"
    config.write_text(TINY)
    missing = run("audit", config, "--data", tmp_path / "missing.csv")
    assert missing.code == 3
    assert "missing.csv" in missing.err
    assert run("audit", config, "--json", tmp_path / "no" / "folder.json").code == 2
    assert store.entries() == []


def test_a_fault_of_ours_is_one_calm_line_and_the_log_holds_nobodys_data(
    saved: AuditResult, store: Store, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("Ana watched Solaris")

    monkeypatch.setattr("mia_core.command_line.keeping.show_report", broken)
    ran = run("report", "latest")
    assert ran.code == 1
    assert ran.err.count("\n") == 1
    assert "Traceback" not in ran.err
    log = store.home / "logs" / "command-line.log"
    assert str(log) in ran.err
    assert "ValueError at" in log.read_text()
    assert "Solaris" not in log.read_text() + ran.err


def test_an_audit_from_config_to_report_lookup_and_second_run(
    store: Store, run: Callable[..., Ran], tmp_path: Path
) -> None:
    config, first, second = tmp_path / "tiny.toml", tmp_path / "first.json", tmp_path / "second.json"
    config.write_text(TINY)
    ran = run("audit", config, "--set", "seed=5", "--json", first, "--threads", 1)
    assert ran.code == 0, ran.err
    assert "Target minus base" in ran.out
    assert "(target)" in ran.err
    document = json.loads(first.read_text())
    by_role = {row["role"]: row for row in document["users"]}
    assert by_role["audited_member"]["p_values"]["loss"] is not None
    assert by_role["known_member"]["p_values"]["loss"] is None

    start = time.monotonic()
    assert run("audit", config, "--set", "seed=5", "--json", second).code == 0
    assert time.monotonic() - start < 5
    assert json.loads(second.read_text()) == document

    assert "p-value" in run("lookup", "tiny", by_role["audited_member"]["user"]).out
    stranger = tmp_path / "history.txt"
    stranger.write_text("No such film\n" * 9)
    assert "annot be scored" in run("lookup", "latest", "--history", stranger).out


def test_ctrl_c_stops_with_130_and_says_how_to_go_on(tmp_path: Path) -> None:
    config = tmp_path / "tiny.toml"
    config.write_text(TINY.replace("epochs = 1\n[target", "epochs = 1000\n[target"))
    environment = {**os.environ, "MIA_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mia_core", "audit", str(config)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    # The split is stored before the base is trained, and that takes far longer than this test.
    while not list((tmp_path / "home").glob("artifacts/*/*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "run the same command again" in err
    assert "Traceback" not in err


STUDY = """
name = "Tiny study"
config = "tiny.toml"
attacks = ["loss"]
[vary]
"prompt.windows" = [1, 2]
[experiment.evaluation]
placebo = false
"""


def test_a_study_is_a_table_and_a_json_document(store: Store, run: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    config, json_path = tmp_path / "study.toml", tmp_path / "study.json"
    config.write_text(STUDY)
    # One audit only: a process of its own would take longer than the audit.
    ran = run("study", config, "--set", "vary.prompt.windows=[2]", "--set", "seed=5", "--json", json_path)
    assert ran.code == 0, ran.err
    assert "Tiny study" in ran.out
    assert "prompt windows" in ran.out
    assert "T5: " in ran.out
    document = json.loads(json_path.read_text())
    (auc,) = [row for row in document["figures"] if (row["attack"], row["metric"]) == ("loss", "auc")]
    assert f"{auc['value']:.3f}" in ran.out
    assert document["config"]["experiment"]["seed"] == 5
    assert run("report", "latest").code == 0
    listed = run("list").out
    assert "… 1 more belongs to the study Tiny study" in listed
    assert auc["audit"][:12] not in listed
    assert auc["audit"][:12] in run("list", "--all").out
    assert run("report", auc["audit"][:8]).code == 0


@pytest.mark.slow
def test_an_audit_is_repeated_with_two_more_seeds_and_its_report_says_how_far_chance_goes(
    store: Store, run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Processes of their own would take longer than the audits.
    monkeypatch.setattr("mia_core.studies.study.spare_cores", lambda: 0)
    config = tmp_path / "tiny.toml"
    config.write_text(TINY.replace("ranked_users = 0", "ranked_users = 0\nplacebo = false"))
    alone = run("audit", config)
    assert alone.code == 0, alone.err
    (entry,) = store.entries("audit")
    command = f"study --repeat {entry.key[:12]}"
    assert f"'{command}' runs it with two more seeds" in alone.out
    ran = run(*command.split())
    assert ran.code == 0, ran.err
    assert "Tiny: other seeds" in ran.out
    told = run("report", "tiny").out
    assert "Run with 3 seeds, this one included" in told
    assert "standard deviation" in told
    assert "--repeat" not in told
    assert "2 more belong to the study Tiny: other seeds" in run("list").out
    assert run("study", "alpha", "--repeat", "tiny").code == 2
    assert run("study", "--repeat", "tiny", "--set", "seed=3").code == 2
    assert run("study", "--repeat", "nothing").code == 6


def test_studies_are_listed_and_wrong_ones_explained(store: Store, run: Callable[..., Ran], tmp_path: Path) -> None:
    listed = run("study", "--list")
    assert listed.code == 0
    assert "alpha" in listed.out
    assert "families" in listed.out
    for arguments, hint in (
        (["alhpa"], "'alpha'"),
        ([], "--list"),
        (["alpha", "--set", "vary.distillation.alpha=[2]"], "distillation.alpha is 2"),
    ):
        ran = run("study", *arguments)
        assert ran.code == 2
        assert hint in ran.err
    assert run("study", "alpha", "--data", tmp_path / "missing.csv").code == 3
    assert store.entries() == []


@pytest.mark.slow
def test_ctrl_c_stops_a_study_and_the_processes_of_its_audits(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    config = tmp_path / "study.toml"
    config.write_text(STUDY.replace('"prompt.windows" = [1, 2]', '"target.training.epochs" = [900, 901]'))
    environment = {**os.environ, "MIA_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mia_core", "study", str(config)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 90
    while not list((tmp_path / "home").glob("scratch/*/*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "run the same command again" in err
    assert "Traceback" not in err
    assert not psutil.wait_procs(workers, timeout=10)[1]


def test_audits_are_inspected_from_near(
    saved: AuditResult,
    make_result: Callable[..., AuditResult],
    save_audit: Callable[..., AuditResult],
    run: Callable[..., Ran],
) -> None:
    told = run("cohorts", "latest", "--count", 3)
    assert told.code == 0
    assert "cohort 1, like" in told.out
    assert "By history length" in told.out
    config = {**saved.config, "target": {**saved.config["target"], "tuning": "lora"}}
    other = save_audit(make_result(key="cd34" + "0" * 60, name="Another", config=config))
    told = run("compare", saved.key[:8], other.key[:8])
    assert "Audits 1 and 2 cannot be told apart by AUC" in told.out
    assert "target.tuning" in told.out
    assert "lora" in told.out
    for arguments, message in (
        (["compare", "latest", "latest"], "two different audits"),
        (["compare", saved.key[:8], other.key[:8], "--attack", "zlib"], "did not run in all"),
        (["methods", "nothing_of_the_kind"], "--search"),
        (["without", "nobody", "x"], "there is none"),
    ):
        assert message in run(*arguments).err


def test_methods_are_explained_without_an_audit(run: Callable[..., Ran]) -> None:
    told = run("methods", "min_k").out
    assert "Formula:" in told
    assert "2310.16789" in told
    listed = run("methods", "--search", "gradient").out
    assert "gradient_norm" in listed
    assert "zlib" not in listed


def test_a_plan_tells_time_memory_and_money_before_anything_is_launched(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("mia_core.planning.throughput.LONG_ENOUGH", 0.05)
    config = tmp_path / "tiny.toml"
    config.write_text(TINY)
    told = run("plan", config, "--price", "3600", "--device", "cpu", "--threads", "1")
    assert told.code == 0, told.err
    for words in ("Train the audited model (target)", "All stages", "was measured to do", "Memory: about"):
        assert words in told.out
    *stages, seconds = map(float, re.findall(r"(\d+) *$", told.out, re.MULTILINE))
    assert seconds == pytest.approx(sum(stages), abs=len(stages))
    assert "within 30% on a quiet machine" in told.out
    money = float(told.out.partition("Money: about ")[2].split()[0])
    # At one a second a plan costs its seconds, which the table rounds.
    assert money == pytest.approx(seconds, abs=1.0)
    for price in ("inf", "nan", "1e308", "-1"):
        refused = run("plan", config, f"--price={price}")
        assert refused.code == 2
        assert "--price" in refused.err
        assert "from 0 to 10,000" in refused.err
    again = run("plan", config, "--device", "cpu", "--threads", "1", "--set", "target.training.epochs=1000")
    assert "Money" not in again.out
    assert again.out != told.out
