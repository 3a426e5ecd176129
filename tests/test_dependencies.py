"""The locks and the bill of materials say what requirements.txt says, and nothing of where they were made."""

from __future__ import annotations

import importlib.metadata
import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements.lock", "requirements-cuda.lock")
PIN = re.compile(r"([a-z0-9][a-z0-9.-]*)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)")
ANEW = "run .ci/lock"


def locked(name: str) -> dict[str, str]:
    """Versions by package, of a lock that holds nothing but pins with hashes, and comments."""
    text = re.sub(r"^#.*\n", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert PIN.sub("", text) == "", f"{name} holds something else than pins with hashes"
    return {found[1]: found[2] for found in PIN.finditer(text)}


def required() -> dict[str, str]:
    """Versions by package in requirements.txt."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith(("#", "-", "."))]
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}


def test_the_lock_holds_what_is_required_and_all_that_this_needs() -> None:
    pins, lock = required(), locked(LOCKS[0])
    assert {name: lock.get(name) for name in pins} == pins, ANEW
    needed, new = set(pins), set(pins)
    while new:
        found = {name for package in new for name in needs(package)}
        new = found - needed
        needed |= new
    # What only PyPI's build of torch needs stands apart.
    assert needed - lock.keys() <= locked(LOCKS[1]).keys(), ANEW


def needs(package: str) -> set[str]:
    """What an installed package needs here."""
    requirements = [Requirement(text) for text in importlib.metadata.requires(package) or []]
    wanted = [need for need in requirements if need.marker is None or need.marker.evaluate({"extra": ""})]
    return {canonicalize_name(need.name) for need in wanted}


def test_what_is_pinned_is_declared_and_its_licence_named() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {canonicalize_name(Requirement(text).name) for text in project["dependencies"]} == required().keys()
    notices = (ROOT / "THIRD_PARTY_NOTICES.md").read_text(encoding="utf-8")
    assert [name for name in required() if f"| {name} |" not in notices] == []


def test_both_locks_hold_the_same_torch() -> None:
    assert {locked(name)["torch"] for name in LOCKS} == {required()["torch"]}


def test_the_bill_of_materials_lists_what_is_locked() -> None:
    document = json.loads((ROOT / "assets" / "sbom.json").read_text(encoding="utf-8"))
    assert (document["bomFormat"], document["metadata"]["component"]["name"]) == ("CycloneDX", "memberscope")
    listed = {component["name"]: component["version"] for component in document["components"]}
    assert listed == locked(LOCKS[0]) | locked(LOCKS[1]), ANEW


@pytest.mark.parametrize("name", [*LOCKS, "assets/sbom.json"])
def test_no_file_tells_where_it_was_made(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"file:|/tmp/|/home/|/root/|/opt/|localhost|--(extra-)?index-url|--find-links|://pypi", text)
