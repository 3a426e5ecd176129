"""Widgets made from the config's own fields: bounds, choices and help come from one place."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Hashable, Mapping, Sequence
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import streamlit as st
from pydantic import ValidationError

from mia_core.experiment import Section, explain
from mia_core.report.methods import field_texts

Config = TypeVar("Config", bound=Section)
AUTOMATIC = "automatic"
"""What an empty number means, where a setting may be left empty."""


def section_form(
    section: Config, key: str, skip: frozenset[str] = frozenset(), labels: Mapping[str, str] | None = None
) -> Config:
    """Widgets for every plain field of a section; returns the section with what was entered.

    Args:
        section: an instance, whose values are the defaults.
        key: prefix of the widgets' keys.
        skip: fields that are asked for elsewhere.
        labels: where given, the fields that are asked for, each with what to call it; one row of them.
    """
    kind = type(section)
    entered: dict[str, Any] = {}
    names = [n for n, f in kind.model_fields.items() if n not in skip and _plain(f.annotation)]
    if labels is not None:
        names = [name for name in names if name in labels]
    # In a single row labels may be of several lines, and what is entered stands in line.
    columns = st.columns(2) if labels is None else st.columns(max(1, len(names)), vertical_alignment="bottom")
    for i, name in enumerate(names):
        with columns[i % len(columns)]:
            field, default = kind.model_fields[name], getattr(section, name)
            help_text = help_texts(kind).get(name)
            label = (labels or {}).get(name) or name.replace("_", " ").capitalize()
            entered[name] = _widget(label, field.annotation, default, f"{key}.{name}", help_text, field.metadata)
    try:
        return kind.model_validate({**section.model_dump(), **entered})
    except ValidationError as error:
        for item in error.errors():
            st.error(explain(item, kind))
        return section


def choice(label: str, options: Mapping[str, str], key: str, default: str | None = None) -> str | None:
    """One of a few options, which stands in the address under its name, not under what it is called.

    Args:
        options: name: what it is called.
        key: of the widget, and in the address.
        default: without one nothing need be chosen.
    """

    def note() -> None:
        chosen = st.session_state[key]
        if chosen is None:
            st.query_params.pop(key, None)
        else:
            st.query_params[key] = chosen

    # The address is what counts: a link to this page, or a reload, chooses as a click does.
    asked = st.query_params.get(key, default)
    st.session_state[key] = asked if asked in options else default
    chosen: str | None = st.segmented_control(
        label,
        list(options),
        format_func=options.__getitem__,
        key=key,
        on_change=note,
        required=default is not None,
    )
    return chosen


def settings_form(kind: type[Any], key: str) -> dict[str, Any]:
    """Widgets for the plain fields of a dataclass; returns what was entered other than the defaults."""
    changed: dict[str, Any] = {}
    hints = get_type_hints(kind)
    for field in settings_of(kind):
        text = help_texts(kind).get(field.name)  # type: ignore[arg-type]
        label = field.name.replace("_", " ").capitalize()
        entered = _widget(label, hints[field.name], field.default, f"{key}.{field.name}", text)
        if entered != field.default:
            changed[field.name] = entered
    return changed


def settings_of(kind: type[Any]) -> list[dataclasses.Field[Any]]:
    """The fields of a dataclass that a form can ask for."""
    hints = get_type_hints(kind)
    return [
        field
        for field in dataclasses.fields(kind)
        if _plain(hints[field.name]) and get_origin(hints[field.name]) is not tuple
    ]


def _plain(kind: Any) -> bool:
    if get_origin(kind) is tuple:
        return all(part is Ellipsis or _is_number(part) for part in get_args(kind))
    return not any(inspect.isclass(part) and issubclass(part, Section) for part in (kind, *get_args(kind)))


def _is_number(kind: Any) -> bool:
    return kind in (int, float) or any(part in (int, float) for part in get_args(kind))


def _widget(label: str, kind: Any, default: Any, key: str, text: str | None, rules: Sequence[Any] = ()) -> Any:
    if get_origin(kind) is Literal:
        choices = list(get_args(kind))
        return st.selectbox(label, choices, index=choices.index(default), key=key, help=text)
    if kind is bool:
        return st.checkbox(label, value=default, key=key, help=text)
    if get_origin(kind) is tuple:
        # Numbers between commas; what is no number is left to the section's own check, which names the field.
        written = st.text_input(label, value=", ".join(f"{number:g}" for number in default), key=key, help=text)
        return tuple(part.strip() for part in written.split(",") if part.strip())
    optional = NoneType in get_args(kind)
    number = next((part for part in get_args(kind) if part in (int, float)), kind) if optional else kind
    if number is int:
        low, high = _bounds(rules, 0, 2**31 - 1)
        return st.number_input(label, int(low), int(high), default, key=key, help=text, placeholder=AUTOMATIC)
    if number is float:
        low, high = _bounds(rules, 0.0, 1e9)
        return st.number_input(
            label,
            float(low),
            float(high),
            default,
            format="%.4g",
            step=_step(default),
            key=key,
            help=text,
            placeholder=AUTOMATIC,
        )
    return st.text_input(label, value=str(default), key=key, help=text)


def _bounds(rules: Sequence[Any], low: float, high: float) -> tuple[float, float]:
    # An open bound is left to the section's own check, which names the allowed range.
    for rule in rules:
        low = max(low, *(getattr(rule, name) for name in ("ge", "gt") if getattr(rule, name, None) is not None), low)
        high = min(high, *(getattr(rule, name) for name in ("le", "lt") if getattr(rule, name, None) is not None), high)
    return low, high


def _step(default: float | None) -> float:
    """A tenth of the default, as a round number."""
    return 10.0 ** math.floor(math.log10(default) - 0.5) if default else 0.1


def help_texts(kind: Hashable) -> dict[str, str]:
    """The sentence under each field of a class, as it stands in its source or in that of a class it extends."""
    return field_texts(kind)
