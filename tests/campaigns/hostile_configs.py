"""Configs as people write them, with anything in any place: of audits, of studies, of defences and of forgetting.

What is accepted is planned, and comes back from its own TOML as the same config with the same key.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from mia_core.audit import estimate
from mia_core.experiment import (
    Experiment,
    load_experiment,
    parse_experiment,
    read_experiment,
    runtime_of_machine,
    to_toml,
)
from mia_core.keys import content_key
from mia_core.planning import capacity
from mia_core.studies.defending import parse_defending
from mia_core.studies.forgetting import load_forgetting
from mia_core.studies.study import load_study
from tests.campaigns.fuzzing import Case
from tests.campaigns.hostile_uploads import HOSTILE, drawn, mutated

ASSETS = Path(__file__).parents[2] / "assets"
SUMMARY = {"users": 480, "items": 300, "interactions": 12_480}
SEQUENCE = ("xlnet", "sasrec")
WILD: tuple[Any, ...] = (
    *(None, True, False, "", "x", "../../etc/passwd", [], {}, [[]], {"": {}}, {"a": {"b": {"c": 1}}}, [1, "a", None]),
    *(0, -1, 1, 2, 3, 0.5, 1.0, 1e-300, 1e308, math.nan, math.inf, -math.inf, 2**31, 2**63, 10**400, -(10**400)),
    *("x" * 5_000, "é\u0301\u202e", "\ud800", "\x00", "=1+1", "nan", "1", "{history}", list(range(300))),
)


def fields(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values for one place of a JSON schema: mostly of its kind, now and then anything."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        return st.one_of([fields(one, definitions) for one in schema["anyOf"]])
    return st.integers(0, 30).flatmap(lambda n: st.sampled_from(WILD) if n == 30 else _of_kind(schema, definitions))


def _of_kind(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "const" in schema:
        return st.just(schema["const"])
    kind = schema.get("type")
    low, high = (
        schema.get("minimum", schema.get("exclusiveMinimum")),
        schema.get("maximum", schema.get("exclusiveMaximum")),
    )
    if kind == "integer":
        near = [bound + by for bound in (low, high) if bound is not None for by in (-1, 0, 0, 1)]
        inside = st.integers(low, high if high is not None else None)
        step = schema.get("multipleOf", 1)
        return st.one_of(inside.map(lambda n: n - n % step), *([st.sampled_from(near)] if near else []))
    if kind == "number":
        inside = st.floats(low, high, allow_nan=low is None and high is None)
        return st.one_of(inside, st.sampled_from([low, high, 0, 1])) if None not in (low, high) else inside
    if kind == "boolean":
        return st.booleans()
    if kind == "string":
        return st.one_of(st.just(schema.get("default", "x")), st.sampled_from(HOSTILE), st.text(max_size=20))
    if kind == "array":
        return st.lists(fields(schema.get("items", {}), definitions), max_size=4)
    if kind == "object" and "properties" in schema:
        parts = {name: fields(part, definitions) for name, part in schema["properties"].items()}
        # A whole config at random is refused for its first field; a few fields at a time come further.
        return st.sets(st.sampled_from(sorted(parts)), max_size=3).flatmap(
            lambda names: st.fixed_dictionaries({name: parts[name] for name in sorted(names)})
        )
    if kind == "object":
        known = st.sampled_from(("min_k", "cap_records", "share", "records", "distillation", ""))
        return st.dictionaries(known, fields(schema.get("additionalProperties", {}), definitions), max_size=2)
    return st.sampled_from(WILD)


SCHEMA = Experiment.model_json_schema()
VALUES = fields(SCHEMA, SCHEMA["$defs"])


def check(experiment: Experiment) -> None:
    """What is done with a config that is accepted, before anything is launched."""
    stages = estimate.plan(experiment, SUMMARY)
    assert all(math.isfinite(stage.seconds) and stage.seconds >= 0 for stage in stages)
    if experiment.base.source == "offline" or experiment.kind == "recommender":
        needed = capacity.memory(experiment, SUMMARY).needed
        assert needed is None or math.isfinite(needed)
    capacity.shape_of(experiment)
    key = content_key("config", 1, experiment)
    assert content_key("config", 1, read_experiment(to_toml(experiment))) == key
    assert content_key("config", 1, parse_experiment(json.loads(experiment.model_dump_json()))) == key


def of_values(numbers: range) -> Case:
    """Configs as plain data, as pages make them: any field with any value."""
    documents = drawn(VALUES, numbers)

    def case(number: int, folder: Path) -> None:
        check(parse_experiment(documents[number]))

    return case


def of_texts(numbers: range) -> Case:
    """TOML files, and settings of the command line laid over them."""
    plain = [path.read_bytes() for path in sorted(ASSETS.glob("*.toml"))]
    whole = json.loads(Experiment().model_dump_json())
    sections = [
        f"{section}.{field}" for section, values in whole.items() if isinstance(values, dict) for field in values
    ]
    said = (
        *HOSTILE,
        *map(repr, WILD[:30]),
        '"t5"',
        "[1,2]",
        "{a=1}",
        "[" * 3_000,
        "9" * 5_000,
        "1979-05-27",
        "{" * 500,
    )

    def case(number: int, folder: Path) -> None:
        rng = random.Random(f"texts {number}")
        path = folder / "config.toml"
        content = rng.choice(plain)
        path.write_bytes(mutated(content, rng) if rng.random() < 0.8 else content)
        chosen = [
            f"{rng.choice(('', 'x', 'data', *sections))}{rng.choice(('=', '=', '=', '', '.x=', '..='))}{rng.choice(said)}"
            for _ in range(rng.choice((0, 0, 1, 2)))
        ]
        check(load_experiment(path, chosen))

    return case


def of_documents(numbers: range) -> Case:
    """Studies, comparisons of defences, checks of forgetting, and settings of a machine."""
    studies = [path.read_bytes() for path in sorted((ASSETS / "studies").glob("*.toml"))]
    panels = [path.read_bytes() for path in sorted((ASSETS / "defenses").glob("*.toml"))]
    audits = [path.read_bytes() for path in sorted(ASSETS.glob("*.toml")) if not path.stem.startswith("study")]
    documents = drawn(VALUES, numbers)
    settings = [
        f"{name}={value!r}" for name in ("alpha", "seeds", "forget", "margin", "settings.a.b") for value in WILD[12:20]
    ]

    def study(rng: random.Random, folder: Path, document: Any) -> None:
        path = folder / "study.toml"
        for audit in ASSETS.glob("*.toml"):
            (folder / audit.name).write_bytes(audit.read_bytes())
        path.write_bytes(mutated(rng.choice(studies).replace(b"../", b""), rng))
        found = load_study(str(path), [f"vary.seed={rng.choice(HOSTILE)}"] * rng.choice((0, 0, 1)))
        if len(found.vary) < 3 and math.prod(len(values) for values in found.vary.values()) < 50:
            _ = found.points

    def defending(rng: random.Random, folder: Path, document: Any) -> None:
        import tomllib

        from mia_core.studies.defending import panel

        path = folder / "panel.toml"
        path.write_bytes(mutated(rng.choice(panels), rng))
        tried = [one.model_dump() for one in panel(Experiment(), path)]
        parse_defending({"experiment": tomllib.loads(rng.choice(audits).decode()), "tried": tried})

    def forgetting(rng: random.Random, folder: Path, document: Any) -> None:
        path = folder / "config.toml"
        path.write_bytes(mutated(rng.choice(audits), rng))
        load_forgetting(path, rng.sample(settings, rng.choice((0, 1, 2))), forget=rng.choice((0.1, ["a"], *WILD)))

    def machine(rng: random.Random, folder: Path, document: Any) -> None:
        names = ("device", "threads", "backend", "address", "gpus_per_task", "processes", "sharded", "x")
        runtime_of_machine([f"{rng.choice(names)}={rng.choice(HOSTILE)}"], **{rng.choice(names): rng.choice(WILD)})

    def posed(rng: random.Random, folder: Path, document: Any) -> None:
        parse_defending({"experiment": document, "tried": [{"title": "a", "names": ["cap_records"]}]})

    acts = (study, defending, forgetting, machine, posed)

    def case(number: int, folder: Path) -> None:
        acts[number % len(acts)](random.Random(f"documents {number}"), folder, documents[number])

    return case


PARTS: dict[str, Callable[[range], Case]] = {"values": of_values, "texts": of_texts, "documents": of_documents}
