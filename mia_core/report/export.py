"""A finished audit as one JSON document that other programs read."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from mia_core.errors import ConfigError, DataError
from mia_core.report.protocols import both_ways
from mia_core.report.results import AuditResult
from mia_core.report.wording import use_of

if TYPE_CHECKING:
    from mia_core.report.follow_ups import FollowUp

LARGEST_SEALED = 2**30
"""Bytes of a file whose seal is checked."""


def metrics_document(result: AuditResult, users: pl.DataFrame, follow_ups: Sequence[FollowUp] = ()) -> dict[str, Any]:
    """Figures and users of an audit as plain JSON data.

    Args:
        result: the audit.
        users: its table ``users``.
        follow_ups: comparisons of defences and checks of forgetting that belong to it.
    Returns:
        name, key, created, lead, device, versions, data, roles, quality, agreement, notes; ``membership``, what it means here;
        ``metrics``, a list of {attack, metric, value, low, high, n, reason, fpr_limit}, value null where it cannot be resolved,
        fpr_limit (of a TPR) the upper limit of the FPR at its threshold; ``users``, a list of {user, role, windows, scores,
        p_values, stratum_p_values, named}, scores and p-values by attack, null where there is none;
        ``promise`` of private training, null where there is none; ``follow_ups``, what was done about a leak, in words;
        ``valid`` and ``gates``, what must hold before any of it is believed; ``claims`` about many users at once;
        ``served_both_ways``, where attacks ran as published: the AUC under each way of serving, as in ``metrics``, null
        where it was not run, and whether the rule of one line explains the published one.
    """
    attacks = [name.removeprefix("score.") for name in users.columns if name.startswith("score.")]
    document = {
        "name": result.name,
        "key": result.key,
        "created": result.created,
        "lead": result.lead,
        "device": result.device,
        "versions": result.versions,
        "membership": use_of(result).meaning,
        "data": result.data,
        "roles": result.roles,
        "notes": result.notes,
        "valid": result.valid,
        "gates": [dataclasses.asdict(gate) for gate in result.gates],
        "claims": None if result.claims is None else dataclasses.asdict(result.claims),
        "promise": None if result.promise is None else dataclasses.asdict(result.promise),
        "promise_broken": result.promise_broken,
        "follow_ups": [dataclasses.asdict(one) for one in follow_ups],
        "metrics": [dataclasses.asdict(metric) for metric in result.metrics],
        "interactions": [dataclasses.asdict(figure) for figure in result.interactions],
        "quality": [dataclasses.asdict(quality) for quality in result.quality],
        "agreement": [dataclasses.asdict(agreement) for agreement in result.agreement],
        "served_both_ways": [dataclasses.asdict(row) for row in both_ways(result)],
        "users": [
            {
                "user": row["user"],
                "role": row["role"],
                "windows": row["windows"],
                "scores": {name: row[f"score.{name}"] for name in attacks},
                "p_values": {name: row.get(f"p.{name}") for name in attacks},
                "stratum_p_values": {name: row.get(f"p_stratum.{name}") for name in attacks},
                "named": row.get("named"),
            }
            for row in users.iter_rows(named=True)
        ],
    }
    plain: dict[str, Any] = without_nan(document)
    return plain


def users_csv(users: pl.DataFrame) -> str:
    """The user table as CSV. An id that a spreadsheet would run as a formula gets an apostrophe before it."""
    text = pl.col(pl.String)
    harmless = pl.when(text.str.contains(r"^[=+\-@\t\r]")).then(pl.lit("'") + text).otherwise(text)
    return users.with_columns(harmless.name.keep()).write_csv()


def write_document(path: Path, document: dict[str, Any]) -> None:
    """Writes JSON that every strict parser reads; the file appears whole or not at all.

    Raises:
        ConfigError: the file cannot be written.
    """
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1)
    write_file(path, f"{text}\n".encode(), "--json")


def write_file(path: Path, content: bytes, option: str = "") -> None:
    """Writes a file that appears whole or not at all.

    Args:
        option: of the command line, that named it.
    Raises:
        ConfigError: the file cannot be written.
    """
    check_destination(path, option)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(
            f"{option} {str(path)!r}: {error.strerror}; name a file that can be written".strip()
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def check_destination(path: Path, option: str = "--json") -> None:
    """Says before a long run, not after it, that a file cannot be written.

    Raises:
        ConfigError: the folder is missing or closed to us, or the path is a folder.
    """
    folder, named = path.absolute().parent, f"{option} {str(path)!r}".strip()
    if path.is_dir():
        raise ConfigError(f"{named} is a folder; name a file in it")
    if not folder.is_dir():
        raise ConfigError(f"{named}: there is no folder {str(folder)!r}; make it first")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{named}: {str(folder)!r} cannot be written; name a file elsewhere")


def read_sealed(path: Path) -> bytes:
    """A file that is said to be sealed.

    Raises:
        DataError: it is missing, a folder, or too large for a report.
    """
    try:
        size = path.stat().st_size
        if size <= LARGEST_SEALED:
            return path.read_bytes()
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read: {error.strerror}; name a report or package") from error
    raise DataError(f"{str(path)!r} has {size:,} bytes; reports and packages are smaller than {LARGEST_SEALED:,}")


def without_nan(value: Any) -> Any:
    """Plain data with null for every number that JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: without_nan(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return value
