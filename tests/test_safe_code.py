"""What the program's own code never does, whatever comes in: no shell, no pickle, no code out of data."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "app.py", *sorted((ROOT / "pages").rglob("*.py")), *sorted((ROOT / "mia_core").rglob("*.py"))]
UNPICKLING = {"pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "joblib", "jsonpickle"}
STARTED = {"sys.executable", "RUNNER", "str(home)", "str(self.home)", "job.id", "*launcher", "str(order)"}
"""What a command line may be made of, besides fixed words: nothing that anybody wrote into a form or a file."""
LOADERS = {"from_pretrained", "snapshot_download"}


@cache
def nodes() -> list[tuple[Path, ast.AST]]:
    """Every piece of the program, with its file."""
    return [(path, node) for path in FILES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]


@cache
def calls() -> list[tuple[str, str, ast.Call]]:
    """(place, what is called, the call) of every call in the program."""
    return [
        (f"{path.relative_to(ROOT)}:{node.lineno}", ast.unparse(node.func), node)
        for path, node in nodes()
        if isinstance(node, ast.Call)
    ]


def value(call: ast.Call, name: str) -> object:
    """The value of a keyword that is written out; its source where it is not, None where it is not there."""
    given = next((keyword.value for keyword in call.keywords if keyword.arg == name), None)
    return given.value if isinstance(given, ast.Constant) else given and ast.unparse(given)


def test_no_shell_and_no_code_made_of_text() -> None:
    forbidden = {
        "os.system",
        "os.popen",
        "subprocess.getoutput",
        "subprocess.getstatusoutput",
        "eval",
        "exec",
        "compile",
    }
    found = [place for place, name, call in calls() if name in forbidden or value(call, "shell") not in (None, False)]
    assert found == []


def test_parquet_files_are_read_by_their_names_alone() -> None:
    """polars takes the name of a folder with a bracket or star in it for a pattern, unless it is told otherwise."""
    readers = ("pl.read_parquet", "pl.scan_parquet", "pl.read_parquet_schema")
    found = {place.partition(":")[0] for place, name, _ in calls() if name in readers}
    assert found == {"mia_core/parquet.py"}


def test_what_is_started_is_made_of_words_of_our_own() -> None:
    """Job arguments are data: a job's process is told its folder and its number, and reads the rest from the job table."""
    commands = []
    for place, name, call in calls():
        if name.startswith("subprocess.") or name == "_start":
            command = call.args[0]
            assert isinstance(command, ast.List | ast.Name), f"{place}: {ast.unparse(command)}"
            commands += [(place, part) for part in getattr(command, "elts", [])]
    assert commands
    odd = [
        f"{place}: {ast.unparse(part)}"
        for place, part in commands
        if not isinstance(part, ast.Constant) and ast.unparse(part) not in STARTED
    ]
    assert odd == []


def test_nothing_is_unpickled() -> None:
    for path, node in nodes():
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not UNPICKLING & {name.partition(".")[0] for name in names}, path
    for place, name, call in calls():
        if name in ("np.load", "numpy.load"):
            assert value(call, "allow_pickle") is False, place
        if name == "torch.load":
            assert value(call, "weights_only") is True, place
        assert name not in ("torch.save",) or "training.py" in place, place


def test_models_are_read_as_safetensors_and_bring_no_code() -> None:
    loaded = [(place, name, call) for place, name, call in calls() if name.rpartition(".")[2] in LOADERS]
    assert len(loaded) >= 4
    for place, name, call in loaded:
        assert value(call, "trust_remote_code") in (None, False), place
        if name.rpartition(".")[2] == "from_pretrained" and "Tokenizer" not in name:
            assert value(call, "use_safetensors") is True, place
        if name == "snapshot_download":
            assert value(call, "allow_patterns"), place


@pytest.mark.parametrize("name", ["unsafe_allow_html", "unsafe_allow_javascript"])
def test_no_text_of_others_is_put_into_a_page_as_markup(name: str) -> None:
    assert [place for place, _, call in calls() if value(call, name) not in (None, False)] == []
