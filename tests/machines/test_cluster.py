"""Work on several machines: the same numbers, nothing twice, nothing left behind, whichever machine is lost."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mia_core.audit.errands import run_elsewhere, stays_here
from mia_core.errors import ClusterError, ConfigError, DataError
from mia_core.experiment import Experiment, Runtime, parse_experiment, runtime_of_machine, to_toml
from mia_core.keys import content_key
from mia_core.machines.cluster import BranchStore, pack, unpack
from mia_core.machines.tasks import map_tasks
from mia_core.pipeline import run_audit
from mia_core.report.results import read_result, read_table
from mia_core.storage.store import Store
from mia_core.studies.forgetting import parse_forgetting, run_forgetting
from mia_core.studies.study import parse_study, run_study
from tests.machines.two_machines import at_work, folders_left, second_node, two_machines, wait_for

ROOT = Path(__file__).parents[2]
QUICK = {"epochs": 2, "learning_rate": 5e-3}
AUDIT: dict[str, Any] = {
    "name": "Far away",
    "data": {"synthetic": {"users": 150, "items": 60, "mean_history": 20, "tastes": 3}},
    "prompt": {"history": 4, "windows": 2},
    "base": {"width": 32, "layers": 2, "vocabulary": 400, "pretraining": QUICK},
    "target": {"training": {"epochs": 6, "learning_rate": 5e-3}},
    "distillation": {"phase_one": QUICK, "phase_two": QUICK, "soft_windows": 4, "soft_training": QUICK},
    "attacks": {"names": ["loss", "lira_online", "distillation"], "lead": "loss", "shadows": 4},
    "evaluation": {"resamples": 200, "ranked_users": 5, "negatives": 10, "placebo": False, "map_users": 0},
}


def audit(**changes: Any) -> Experiment:
    return parse_experiment({**AUDIT, **changes})


def write_number(folder: Path) -> None:
    (folder / "number.txt").write_text("7", encoding="utf-8")


def note(number: int, store: Store) -> tuple[int, int]:
    """Builds an artifact and says which process it was."""
    store.build(content_key("note", 1, number), "note", write_number)
    return number * number, os.getpid()


def note_slowly(number: int, store: Store) -> int:
    """As `note`, and then for a while under way."""
    note(number, store)
    time.sleep(0.5)
    return number * number


def refuse(number: int, store: Store) -> int:
    raise DataError(f"ratings are {number}; give stars")


def stumble(number: int, store: Store) -> int:
    raise ValueError("Ana watched Solaris")


# What travels


def test_what_travels_is_files_of_known_kinds_and_arrives_as_it_left(tmp_path: Path) -> None:
    there = tmp_path / "there"
    (there / "0").mkdir(parents=True)
    np.save(there / "0" / "values.npy", np.arange(5))
    (there / "words.json").write_text('{"é": 1}', encoding="utf-8")
    (there / "artifact.json").write_text("{}", encoding="utf-8")
    here = tmp_path / "here"
    unpack(pack(there), here)
    assert (here / "0" / "values.npy").read_bytes() == (there / "0" / "values.npy").read_bytes()
    assert (here / "words.json").read_text(encoding="utf-8") == '{"é": 1}'
    # Every store writes its own manifest.
    assert not (here / "artifact.json").exists()
    (there / "weights.pt").write_bytes(b"")
    with pytest.raises(ClusterError, match="no name of a file"):
        pack(there)


@pytest.mark.parametrize(
    "name", ["../x.json", "/etc/x.json", "a/../../x.json", "x.pkl", "x.pt", ".json", "a\\..\\x.json", ""]
)
def test_a_name_that_leads_elsewhere_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    with pytest.raises(ClusterError, match="no name of a file"):
        unpack({"good.json": np.zeros(1, np.uint8), name: np.zeros(1, np.uint8)}, folder)
    assert list(tmp_path.rglob("*.*")) == []


def test_a_branch_takes_what_there_is_and_sends_what_it_makes(tmp_path: Path) -> None:
    main = Store(tmp_path / "main")
    known, new = content_key("note", 1, 1), content_key("note", 1, 2)
    main.build(known, "note", write_number)

    def ask(question: str, told: Any) -> Any:
        if question == "find":
            folder = main.find(told)
            return None if folder is None else pack(folder)
        files = told.pop("files")
        main.build(told.pop("key"), told.pop("kind"), lambda folder: unpack(files, folder), **told)
        return None

    branch = BranchStore(tmp_path / "branch", ask)

    def forbidden(folder: Path) -> None:
        raise AssertionError("it is there already")

    branch.build(known, "note", forbidden)
    branch.build(new, "note", write_number, name="New", keep=True)
    (entry,) = [entry for entry in main.entries("note") if entry.key == new]
    assert (entry.name, entry.keep) == ("New", True)
    assert (entry.path / "number.txt").read_text(encoding="utf-8") == "7"


# The setting


def test_one_setting_says_where_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MIA_BACKEND", "MIA_RAY_ADDRESS", "MIA_GPUS_PER_TASK", "MIA_PROCESSES", "MIA_SHARDED"):
        monkeypatch.delenv(name, raising=False)
    assert runtime_of_machine() == Runtime()
    monkeypatch.setenv("MIA_BACKEND", "ray")
    monkeypatch.setenv("MIA_RAY_ADDRESS", "10.0.0.1:6379")
    assert runtime_of_machine(device="cpu") == Runtime(backend="ray", address="10.0.0.1:6379", device="cpu")
    assert runtime_of_machine(["backend=local", "gpus_per_task=0.5"]) == Runtime(
        address="10.0.0.1:6379", gpus_per_task=0.5
    )
    with pytest.raises(ConfigError, match="did you mean 'backend'"):
        runtime_of_machine(["backnd=ray"])
    monkeypatch.setenv("MIA_BACKEND", "cloud")
    with pytest.raises(ConfigError, match="MIA_BACKEND"):
        runtime_of_machine()


def test_without_ray_or_without_a_token_it_is_said_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = Runtime(backend="ray", address="192.0.2.1:1")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(ClusterError, match="get-auth-token"):
        list(map_tasks(note, [1], Store(tmp_path), far))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r"memberscope\[ray\]"):
        list(map_tasks(note, [1], Store(tmp_path), far))


def test_what_lies_on_one_machine_alone_is_not_looked_for_on_others(tmp_path: Path) -> None:
    store = Store(tmp_path / "home")

    def of(folder: Path) -> Experiment:
        return parse_experiment({"base": {"source": "local", "path": str(folder)}})

    uploaded, elsewhere = of(store.home / "uploads" / "model"), of(tmp_path / "model")
    assert stays_here(uploaded, store)
    assert not stays_here(elsewhere, store)
    assert not stays_here(audit(), store)
    with pytest.raises(ConfigError, match=r"base\.path .* not on every machine"):
        run_elsewhere(elsewhere.model_dump(mode="json"), "0" * 64, Runtime(), store)


# On a cluster


class Counting(Store):
    """A store that counts what arrives from elsewhere."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.arrived: Counter[str] = Counter()
        self.made_here: Counter[str] = Counter()
        self.on_arrival: Callable[[str], None] = lambda kind: None

    def build(self, key: str, kind: str, write: Callable[[Path], None], **options: Any) -> Path:
        if threading.current_thread() is threading.main_thread():

            def counted(folder: Path) -> None:
                write(folder)
                self.made_here[kind] += 1

            return super().build(key, kind, counted, **options)
        self.arrived[key] += 1
        folder = super().build(key, kind, write, **options)
        self.on_arrival(kind)
        return folder


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Any]:
    with two_machines() as cluster:
        yield cluster


def far(cluster: Any) -> Runtime:
    return Runtime(backend="ray", address=cluster.address, device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["local", "processes", "ray"])
def test_work_is_done_in_order_and_its_errors_are_told_apart(
    backend: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    store, workers = Store(tmp_path), 1 if backend == "local" else 2
    runtime = far(request.getfixturevalue("two_nodes")) if backend == "ray" else Runtime()
    found = list(map_tasks(note, range(5), store, runtime, workers))
    assert [square for square, _ in found] == [0, 1, 4, 9, 16]
    assert ({process for _, process in found} == {os.getpid()}) == (backend == "local")
    assert {entry.key for entry in store.entries("note")} == {content_key("note", 1, number) for number in range(5)}
    with pytest.raises(DataError, match="ratings are 3; give stars"):
        list(map_tasks(refuse, [3], store, runtime, workers))
    with pytest.raises((ValueError, ClusterError)) as caught:
        list(map_tasks(stumble, [3], store, runtime, workers))
    if backend == "ray":
        assert "Solaris" not in str(caught.value)
        assert "ValueError at test_cluster.py" in str(caught.value)
        assert folders_left() == []


def test_work_goes_on_where_a_machine_is_lost_and_nothing_that_was_finished_is_done_again(
    two_nodes: Any, tmp_path: Path
) -> None:
    second = second_node(two_nodes)
    store = Counting(tmp_path)

    def lose_one(kind: str) -> None:
        # Each machine has finished one and is at the next.
        if two_nodes.second is not None and len(store.arrived) >= 3:
            two_nodes.second = None
            two_nodes.remove_node(second, allow_graceful=False)

    store.on_arrival = lose_one
    assert list(map_tasks(note_slowly, range(6), store, far(two_nodes))) == [0, 1, 4, 9, 16, 25]
    assert two_nodes.second is None, "no machine was lost"
    assert store.arrived == {content_key("note", 1, number): 1 for number in range(6)}


@pytest.mark.campaign
@pytest.mark.slow
def test_an_audit_survives_the_loss_of_a_machine_with_the_same_numbers(two_nodes: Any, tmp_path: Path) -> None:
    second = second_node(two_nodes)
    here, away = Store(tmp_path / "here"), Counting(tmp_path / "away")
    arrived: list[str] = []

    def lose_one(kind: str) -> None:
        arrived.append(kind)
        # The target and some of what follows are there, more is under way.
        if two_nodes.second is not None and arrived.count("model") == 4:
            two_nodes.second = None
            two_nodes.remove_node(second, allow_graceful=False)

    away.on_arrival = lose_one
    near = run_audit(audit(), here)
    distant = run_audit(audit(), away, runtime=far(two_nodes))
    assert two_nodes.second is None, "no machine was lost"
    assert (distant.key, distant.metrics, distant.gates, distant.claims) == (
        near.key,
        near.metrics,
        near.gates,
        near.claims,
    )
    for table in ("users", "features", "roc"):
        tables = [read_table(store.find(near.key) or tmp_path, table) for store in (here, away)]
        assert tables[0].equals(tables[1]), table
    # Every file of every model and of every answer, too.
    for entry in here.entries("model", "observations", "split"):
        found = away.find(entry.key)
        assert found is not None, entry.kind
        assert {name: part.tobytes() for name, part in pack(found).items()} == {
            name: part.tobytes() for name, part in pack(entry.path).items()
        }
    assert set(away.arrived.values()) == {1}, "something finished was made again"
    assert away.made_here["model"] == away.made_here["observations"] == 0
    before = sum(away.arrived.values())
    away.remove(near.key)
    assert run_audit(audit(), away, runtime=far(two_nodes)).metrics == near.metrics
    assert sum(away.arrived.values()) == before, "what was there was sent out"


@pytest.mark.slow
def test_the_points_of_a_study_and_the_placebo_are_spread_too(two_nodes: Any, tmp_path: Path) -> None:
    second_node(two_nodes)
    quick = {**AUDIT, "attacks": {"names": ["loss"], "lead": "loss"}}
    study = parse_study({"name": "Seeds", "experiment": quick, "vary": {"seed": [0, 1]}})
    near = run_study(study, Store(tmp_path / "here"), runtime=Runtime(device="cpu", threads=1))
    away = Store(tmp_path / "away")
    distant = run_study(study, away, runtime=far(two_nodes))
    assert distant.failures == near.failures == []
    assert distant.key == near.key
    # A point is an audit of this machine's from now on: with everything that its result rests on.
    keys = {entry.key for entry in away.entries()}
    for entry in away.entries("point"):
        assert set(read_result(entry.path).artifacts) <= keys


@pytest.mark.slow
def test_the_placebo_runs_beside_it_on_another_machine(two_nodes: Any, tmp_path: Path) -> None:
    second_node(two_nodes)
    quick = audit(attacks={"names": ["loss"], "lead": "loss"}, evaluation={**AUDIT["evaluation"], "placebo": True})
    here, away = Store(tmp_path / "here"), Counting(tmp_path / "away")
    near = run_audit(quick, here, runtime=Runtime(device="cpu", threads=1))
    distant = run_audit(quick, away, runtime=far(two_nodes))
    assert distant.gates == near.gates
    assert {gate.name for gate in near.gates} >= {"blind", "placebo"}
    placebos = [[entry.key for entry in store.entries("placebo")] for store in (here, away)]
    assert placebos[0] == placebos[1] != []
    assert away.arrived[placebos[1][0]] == 1


@pytest.mark.slow
@pytest.mark.parametrize("methods", [["gradient_ascent"], ["adapter_shards"]])
def test_what_a_check_of_forgetting_trains_is_spread_too(two_nodes: Any, tmp_path: Path, methods: list[str]) -> None:
    second_node(two_nodes)
    training = {"epochs": 3, "learning_rate": 5e-3}
    experiment = {
        **AUDIT,
        "base": {**AUDIT["base"], "width": 16},
        "target": {"training": training, "tuning": "lora", "lora": {"rank": 4}},
        "attacks": {"names": ["loss"], "lead": "loss"},
    }
    settings = {"adapter_shards": {"shards": 2}} if methods == ["adapter_shards"] else {}
    document = parse_forgetting({"experiment": experiment, "forget": 0.2, "methods": methods, "settings": settings})
    here, away = Store(tmp_path / "here"), Counting(tmp_path / "away")
    near = run_forgetting(document, here, runtime=Runtime(device="cpu", threads=1))
    distant = run_forgetting(document, away, runtime=far(two_nodes))
    assert distant.key == near.key
    for one, other in zip(near.outcomes, distant.outcomes, strict=True):
        timeless = {"seconds": None, "retraining_seconds": None}
        assert dataclasses.replace(one, **timeless) == dataclasses.replace(other, **timeless)
        # What each training took is told by the machine that did it.
        assert other.seconds is not None
    assert set(away.arrived.values()) == {1}
    assert set(away.made_here) <= {"interactions", "split", "model", "forgetting", "said"}
    assert away.made_here["said"] <= 1, "only the model before fine-tuning is asked here"


@pytest.mark.slow
def test_who_is_stopped_leaves_no_work_behind(two_nodes: Any, tmp_path: Path) -> None:
    second_node(two_nodes)
    config = tmp_path / "audit.toml"
    config.write_text(to_toml(audit(target={"training": {"epochs": 1_000}})), encoding="utf-8")
    asked = ["--runtime", "backend=ray", "--runtime", f"address={two_nodes.address}", "--device", "cpu"]
    command = [sys.executable, "-m", "mia_core", "audit", str(config), *asked]
    process = subprocess.Popen(command, env={**os.environ, "MIA_HOME": str(tmp_path / "home")}, cwd=ROOT)
    wait_for(lambda: bool(folders_left()), 60)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    wait_for(lambda: not folders_left(), 20)
    wait_for(lambda: not at_work(two_nodes.address), 20)


@pytest.mark.slow
def test_without_the_clusters_token_nobody_joins_it(two_nodes: Any, tmp_path: Path) -> None:
    config = tmp_path / "audit.toml"
    config.write_text(to_toml(audit()), encoding="utf-8")
    asked = ["--runtime", "backend=ray", "--runtime", f"address={two_nodes.address}"]
    found = subprocess.run(
        [sys.executable, "-m", "mia_core", "audit", str(config), *asked],
        env={**os.environ, "MIA_HOME": str(tmp_path / "home"), "RAY_AUTH_TOKEN": "0" * 64},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode == ClusterError.exit_code
    assert "token" in found.stderr
    assert "Traceback" not in found.stderr
