"""Widgets made from the config's own fields: bounds, choices and help come from one place."""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin

import streamlit as st
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from mia_core.experiment import Section

Config = TypeVar("Config", bound=Section)


def section_form(section: Config, key: str, skip: frozenset[str] = frozenset()) -> Config:
    """Widgets for every plain field of a section; returns the section with what was entered.

    Args:
        section: an instance, whose values are the defaults.
        key: prefix of the widgets' keys.
        skip: fields that are asked for elsewhere.
    """
    kind = type(section)
    entered: dict[str, Any] = {}
    names = [n for n, f in kind.model_fields.items() if n not in skip and _plain(f)]
    columns = st.columns(2)
    for i, name in enumerate(names):
        with columns[i % 2]:
            default = getattr(section, name)
            entered[name] = _widget(name, kind.model_fields[name], default, f"{key}.{name}", help_texts(kind).get(name))
    try:
        return kind.model_validate({**section.model_dump(), **entered})
    except ValidationError as error:
        for item in error.errors():
            st.error(f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}")
        return section


def _plain(field: FieldInfo) -> bool:
    kinds = {field.annotation, *get_args(field.annotation)}
    return (
        not any(inspect.isclass(kind) and issubclass(kind, Section) for kind in kinds)
        and get_origin(field.annotation) is not tuple
    )


def _widget(name: str, field: FieldInfo, default: Any, key: str, text: str | None) -> Any:
    label = name.replace("_", " ").capitalize()
    kind = field.annotation
    if get_origin(kind) is Literal:
        choices = list(get_args(kind))
        return st.selectbox(label, choices, index=choices.index(default), key=key, help=text)
    if kind is bool:
        return st.checkbox(label, value=default, key=key, help=text)
    if kind is int:
        low, high = _bounds(field, 0, 2**31 - 1)
        return int(st.number_input(label, int(low), int(high), int(default), key=key, help=text))
    if kind is float:
        low, high = _bounds(field, 0.0, 1e9)
        digits = "%.4g"
        return float(
            st.number_input(
                label, float(low), float(high), float(default), format=digits, step=_step(default), key=key, help=text
            )
        )
    return st.text_input(label, value=str(default), key=key, help=text)


def _bounds(field: FieldInfo, low: float, high: float) -> tuple[float, float]:
    # An open bound is left to the section's own check, which names the allowed range.
    for rule in field.metadata:
        low = max(low, *(getattr(rule, name) for name in ("ge", "gt") if getattr(rule, name, None) is not None), low)
        high = min(high, *(getattr(rule, name) for name in ("le", "lt") if getattr(rule, name, None) is not None), high)
    return low, high


def _step(default: float) -> float:
    return max(default / 10, 1e-4)


@cache
def help_texts(kind: type[Section]) -> dict[str, str]:
    """The sentence under each field of a section, as it stands in the config's source."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    texts: dict[str, str] = {}
    previous = ""
    for node in getattr(body, "body", []):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            previous = node.target.id
        elif previous and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            texts[previous] = inspect.cleandoc(str(node.value.value)).replace("``", "`")
            previous = ""
        else:
            previous = ""
    return texts
