"""The finished audits that come with the program: opened at once, with no model; made anew and checked byte for byte.

``assets/example`` holds them as they lie in a store. What depends on the clock, the time of creation and how long each
stage took, or whether it found its work done, is apart in ``clock.json``, so that everything else can be compared: the same
program, libraries and kind of processor give the same bytes. Another processor, or another version of a library, may round
the last digits otherwise; a check then names the files that differ, and nothing is wrong with either.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mia_core.errors import StoreError
from mia_core.keys import content_key, file_key
from mia_core.report.results import SHIPPED, AuditResult, read_result, read_table
from mia_core.storage import journal
from mia_core.types import Progress

if TYPE_CHECKING:
    import polars as pl

    from mia_core.storage.store import Store

FOLDER = Path(__file__).parent.parent / "assets" / "example"
VARIANTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "full": ("Example: all weights fine-tuned", ()),
    "lora": ("Example: LoRA adapters", ("target.tuning=lora", "target.training.learning_rate=0.005")),
}
"""Folder: what the audit is called, and in which settings it differs from example.toml."""
INTERACTIONS = "interactions"
MANIFEST, CLOCK = "manifest.json", "clock.json"
TIMED = ("seconds", "cached")
"""What of a stage depends on the clock."""
CORES = 2
"""What it is made on, wherever it is made: on more of them sums would be taken in another order."""


@dataclass(frozen=True)
class Manifest:
    """What the shipped folder holds."""

    audits: dict[str, str]
    """Folder: key; the one that is opened comes first."""
    interactions: str
    """Key of the interactions, which are common to all."""
    files: dict[str, str]
    """Path in the folder: SHA-256 of its bytes."""
    made_with: dict[str, str]
    """Versions of what has a say in the bytes."""

    @property
    def digest(self) -> str:
        """One key for all bytes."""
        return content_key("example", 1, self.files)


def manifest() -> Manifest:
    """The manifest of the shipped example."""
    return Manifest(**json.loads((FOLDER / MANIFEST).read_text(encoding="utf-8")))


def audit_keys() -> list[str]:
    """Keys of the shipped audits, the one that is opened first; none where the program came without them."""
    return list(manifest().audits.values()) if (FOLDER / MANIFEST).is_file() else []


def shown() -> tuple[AuditResult, pl.DataFrame]:
    """(the result of the audit that is opened, role and score of its users by the lead attack), read where they are shipped."""
    folder = FOLDER / next(iter(VARIANTS))
    result = read_result(folder)
    scores = read_table(folder, "users", ("role", f"score.{result.lead}"))
    return result, scores.rename({f"score.{result.lead}": "value"})


def install(store: Store, left_out: Collection[str] = ()) -> str:
    """Puts the shipped audits into a store, where they are not there yet, and returns the key of the one to open.

    They are ordinary audits from then on, older than any that is run here. The log says when they came.

    Args:
        left_out: keys of audits that stay away.
    Raises:
        StoreError: a shipped file is damaged, or the log cannot be written.
    """
    shipped = manifest()
    mark = json.dumps({"digest": shipped.digest})
    wanted = {name: key for name, key in shipped.audits.items() if key not in left_out}
    missing = [name for name, key in wanted.items() if not _is_current(store, key, mark)]
    if not missing and store.find(shipped.interactions) is not None:
        return next(iter(shipped.audits.values()))
    if damaged := differing(shipped.files, FOLDER):
        raise StoreError(f"assets/example: {damaged[0]!r} is damaged; fetch it anew, or run 'example --make'")
    clock = json.loads((FOLDER / CLOCK).read_text(encoding="utf-8"))
    journal.note(store.home, "example opened", keys=sorted(shipped.audits[name] for name in missing))
    store.build(shipped.interactions, "interactions", lambda folder: _copy(FOLDER / INTERACTIONS, folder), keep=True)
    for name in missing:
        store.remove(shipped.audits[name])

        def write(folder: Path, name: str = name) -> None:
            _copy(FOLDER / name, folder)
            (folder / SHIPPED).write_text(mark, encoding="utf-8")
            path = folder / "result.json"
            path.write_text(_with_clock(path.read_text(encoding="utf-8"), clock[name]), encoding="utf-8")

        created = str(clock[name]["created"])
        store.build(shipped.audits[name], "audit", write, name=VARIANTS[name][0], keep=True, created=created)
    return next(iter(shipped.audits.values()))


def install_where_new(store: Store, key: str) -> bool:
    """Puts the shipped audits into a store because an address names one of them, but none that was there before and is gone.

    From what was removed on purpose nobody comes back, and no erased person does, unless somebody asks for it: `install`.

    Returns:
        whether the audit of this key is in the store.
    """
    gone = {one for one in audit_keys() if not store.holds(one)}
    if key in gone:
        # Whatever came, was looked at or went stands in the log.
        told = [about for event in journal.read(store.home) for about in event.about.values()]
        gone &= {str(one) for about in told for one in (about if isinstance(about, list) else [about])}
    if key in gone:
        return False
    install(store, gone)
    return True


def differing(files: dict[str, str], folder: Path) -> list[str]:
    """Paths of a manifest that are missing in a folder or have other bytes there."""
    return [path for path, key in files.items() if not (folder / path).is_file() or file_key(folder / path) != key]


def make(folder: Path, progress: Progress) -> Manifest:
    """Runs the audits in a store of their own and writes them into a folder, with their manifest."""
    # Opening an example must not wait for what making one needs.
    from mia_core.experiment import Runtime, load_experiment
    from mia_core.pipeline import run_audit
    from mia_core.storage.store import Store

    audits, clock, kept = {}, {}, ""
    with tempfile.TemporaryDirectory(prefix="memberscope-example-") as home, _on_cores(CORES):
        store = Store(Path(home))
        for name, (title, changes) in VARIANTS.items():
            experiment = load_experiment(FOLDER / "example.toml", [f"name={json.dumps(title)}", *changes])
            result = run_audit(experiment, store, progress, Runtime(device="cpu", threads=1))
            audits[name], kept = result.key, str(result.data["key"])
            _copy(_found(store, result.key), folder / name)
            path = folder / name / "result.json"
            timeless, clock[name] = _without_clock(path.read_text(encoding="utf-8"))
            path.write_text(timeless, encoding="utf-8")
        _copy(_found(store, kept), folder / INTERACTIONS)
        store.close()
    paths = sorted(path for part in (*VARIANTS, INTERACTIONS) for path in (folder / part).iterdir())
    files = {path.relative_to(folder).as_posix(): file_key(path) for path in paths}
    versions = {
        name: importlib.metadata.version(name) for name in ("numpy", "polars", "scikit-learn", "scipy", "torch")
    }
    made = Manifest(audits, kept, files, versions)
    for name, document in ((MANIFEST, made.__dict__), (CLOCK, clock)):
        (folder / name).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return made


def remake(progress: Progress) -> None:
    """Makes the shipped example anew, in its place."""
    with tempfile.TemporaryDirectory(prefix="memberscope-example-") as folder:
        made = Path(folder)
        make(made, progress)
        for part in (*VARIANTS, INTERACTIONS):
            shutil.rmtree(FOLDER / part, ignore_errors=True)
            shutil.copytree(made / part, FOLDER / part)
        for name in (MANIFEST, CLOCK):
            shutil.copyfile(made / name, FOLDER / name)


def check(progress: Progress) -> list[str]:
    """What is amiss with the shipped example, in sentences: damaged files, and files that come out otherwise when made anew."""
    shipped = manifest()
    said = [f"{path} is damaged" for path in differing(shipped.files, FOLDER)]
    with tempfile.TemporaryDirectory(prefix="memberscope-example-") as folder:
        made = make(Path(folder), progress)
    paths = sorted({*shipped.files, *made.files})
    said += [f"{path} comes out otherwise" for path in paths if shipped.files.get(path) != made.files.get(path)]
    changed = [
        f"{name} {shipped.made_with.get(name, '–')} there, {version} here"
        for name, version in made.made_with.items()
        if shipped.made_with.get(name) != version
    ]
    if said and changed:
        said.append(f"made with other versions: {'; '.join(changed)}")
    return said


def _is_current(store: Store, key: str, mark: str) -> bool:
    """Whether an audit of that key is there: this very example, or the same audit as somebody ran it."""
    folder = store.find(key)
    if folder is None:
        return False
    path = folder / SHIPPED
    return not path.is_file() or path.read_text(encoding="utf-8") == mark


def _copy(source: Path, folder: Path) -> None:
    """The files of an artifact, without what its store noted."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        if path.name not in ("artifact.json", SHIPPED):
            shutil.copyfile(path, folder / path.name)


def _found(store: Store, key: str) -> Path:
    folder = store.find(key)
    assert folder is not None, "it was finished a moment ago"  # noqa: S101
    return folder


def _without_clock(text: str) -> tuple[str, dict[str, Any]]:
    """(a result in which no time stands, the times)."""
    document = json.loads(text)
    # The placebo runs beside the audit: which of the two makes what they share, and which finds it made, is a matter of time.
    timed = [{name: stage[name] for name in TIMED} for stage in document["stages"]]
    clock = {"created": document["created"], "stages": timed}
    document["created"] = ""
    for stage in document["stages"]:
        stage |= {"seconds": 0.0, "cached": False}
    return json.dumps(document, ensure_ascii=False, indent=1), clock


def _with_clock(text: str, clock: dict[str, Any]) -> str:
    document = json.loads(text)
    document["created"] = clock["created"]
    for stage, timed in zip(document["stages"], clock["stages"], strict=True):
        stage |= timed
    return json.dumps(document, ensure_ascii=False, indent=1)


@contextmanager
def _on_cores(count: int) -> Iterator[None]:
    """Works on at most so many cores."""
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(mine)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)
