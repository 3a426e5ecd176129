"""Every attack on every family, data set and way of tuning: one table, made by resumable audits within a budget.

    python benchmarks/battery.py DATA_FOLDER [--minutes 60] [--seeds 0] [--shadows 4] [--print-only]

DATA_FOLDER holds ml-latest-small, lastfm-2k and book-crossing. Audits lie in the store (MIA_HOME); a cell that is there
costs nothing, and no cell is started once the budget is spent. What was not run is said to be so. The figures go to
assets/battery.json, which the app shows, and to the terminal as Markdown. For those who have the time:
--seeds 0 1 2 --shadows 16 --minutes 6000.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from mia_core.attacks.catalogue import GROUPS
from mia_core.evaluate.modality import modes_of_features
from mia_core.experiment import Experiment, Runtime, parse_experiment
from mia_core.pipeline import audit_key, run_audit, start
from mia_core.report.results import AuditResult, read_result, read_table
from mia_core.storage.store import Store
from mia_core.types import Silent

ASSET = Path(__file__).parent.parent / "assets" / "battery.json"
DATA: dict[str, dict[str, Any]] = {
    "ml-latest-small": {"prompt": {"history": 8, "windows": 3}},
    "lastfm-2k": {"prompt": {"history": 8, "windows": 4}},
    "book-crossing": {"prompt": {"history": 4, "windows": 3}},
}
TUNING: dict[str, dict[str, Any]] = {
    "full": {"tuning": "full", "training": {"epochs": 6}},
    "lora": {"tuning": "lora", "lora": {"rank": 16}, "training": {"epochs": 20, "learning_rate": 5e-3}},
}
CELLS = [
    ("ml-latest-small", "t5", "full"),
    ("ml-latest-small", "gpt2", "full"),
    ("ml-latest-small", "llama", "full"),
    ("book-crossing", "t5", "full"),
    ("ml-latest-small", "t5", "lora"),
    ("ml-latest-small", "llama", "lora"),
    ("book-crossing", "gpt2", "full"),
    ("book-crossing", "llama", "full"),
    ("lastfm-2k", "gpt2", "full"),
    ("ml-latest-small", "gpt2", "lora"),
    ("book-crossing", "t5", "lora"),
    ("book-crossing", "gpt2", "lora"),
    ("book-crossing", "llama", "lora"),
    ("lastfm-2k", "t5", "full"),
    ("lastfm-2k", "llama", "full"),
    ("lastfm-2k", "gpt2", "lora"),
    ("lastfm-2k", "t5", "lora"),
    ("lastfm-2k", "llama", "lora"),
]
"""In the order in which they are run."""
FIGURES = ("auc", "tpr_at_fpr_0.05", "tpr_at_fpr_0.01", *(f"precision_at_recall_{r}" for r in (0.1, 0.5, 0.9)))


def experiment(cell: tuple[str, str, str], folder: Path, seed: int, shadows: int) -> Experiment:
    """One audit with every attack; the placebo, which is an audit of its own, is left out here."""
    data, family, tuning = cell
    return parse_experiment(
        {
            "name": f"{data}, {family}, {tuning}, seed {seed}",
            "seed": seed,
            "data": {"source": "file", "path": str(folder / data)},
            **DATA[data],
            "base": {"family": family},
            "target": TUNING[tuning],
            "attacks": {"names": ["all"], "shadows": shadows},
            "views": {"temperatures": [0.3, 1.0], "repeats": 3},
            "evaluation": {"placebo": False},
        }
    )


def figures(cell: tuple[str, str, str], seed: int, result: AuditResult) -> list[dict[str, Any]]:
    """Every attack's figures of one audit."""
    rows = []
    for attack in result.attacks:
        row: dict[str, Any] = {
            "data": cell[0],
            "family": cell[1],
            "tuning": cell[2],
            "seed": seed,
            "attack": attack.name,
            "skipped": attack.skipped,
        }
        for name in FIGURES:
            metric = result.metric(attack.name, name)
            row[name] = None if metric is None else [metric.value, metric.low, metric.high]
        rows.append(row)
    return rows


def modes(folder: Path) -> tuple[int, int]:
    """(distributions of features over users with more than one mode, at 5% after Holm, distributions tested)."""
    tested = modes_of_features(read_table(folder, "features")).drop_nulls("p_value")
    return int((tested["p_value"] < 0.05).sum()), tested.height


def markdown(rows: list[dict[str, Any]], cells: list[tuple[str, str, str]]) -> str:
    """AUC with interval and TPR at 5% FPR of every attack, a column per cell; the first seed."""
    first = {(r["data"], r["family"], r["tuning"], r["attack"]): r for r in reversed(rows)}
    head = " | ".join(f"{data}, {family}, {tuning}" for data, family, tuning in cells)
    lines = [f"| attack | {head} |", "|---|" + "---|" * len(cells)]
    ran = {row["attack"] for row in rows if row["auc"]}
    for group in GROUPS.values():
        # Attacks on recommenders of items do not run on language models.
        attacks = [attack for attack in group.attacks if attack in ran]
        lines += [f"| **{group.title}** |" + " |" * len(cells)] if attacks else []
        lines += [
            f"| {attack} | " + " | ".join(_cell(first.get((*cell, attack))) for cell in cells) + " |"
            for attack in attacks
        ]
    return "\n".join(lines)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "not run"
    auc, tpr = row["auc"], row["tpr_at_fpr_0.05"]
    if auc is None or auc[0] is None:
        return "–"
    detected = "–" if tpr is None or tpr[0] is None else f"{100 * tpr[0]:.0f}%"
    chance = "chance " if auc[1] <= 0.5 <= auc[2] else ""
    return f"{chance}{auc[0]:.3f} ({auc[1]:.2f}–{auc[2]:.2f}); {detected}"


def main() -> None:
    """Runs what the budget allows and prints everything that is there."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--shadows", type=int, default=4)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--print-only", action="store_true")
    arguments = parser.parse_args()
    store, end = Store(), time.monotonic() + 60 * arguments.minutes
    runtime = Runtime(threads=arguments.threads)
    rows: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        for cell in CELLS:
            wanted = experiment(cell, arguments.folder, seed, arguments.shadows)
            run = start(wanted, store, Silent(), runtime, announce=False)
            found = store.find(audit_key(run.experiment, run.interactions))
            if found is None and (arguments.print_only or time.monotonic() > end):
                continue
            started = time.monotonic()
            result = read_result(found) if found else run_audit(wanted, store, Silent(), runtime)
            rows += figures(cell, seed, result)
            folder = store.find(result.key)
            assert folder is not None
            several, tested = modes(folder)
            print(f"<!-- {several} of {tested} distributions of features have more than one mode -->")
            print(f"<!-- {result.name}: {time.monotonic() - started:.0f} s, {result.device} -->", flush=True)
            document = {"shadows": arguments.shadows, "cells": [list(each) for each in CELLS], "rows": rows}
            ASSET.write_text(json.dumps(document, indent=0) + "\n", encoding="utf-8")
    ran = {(row["data"], row["family"], row["tuning"]) for row in rows}
    print(markdown(rows, [cell for cell in CELLS if cell in ran]))
    missing = ", ".join(" ".join(cell) for cell in CELLS if cell not in ran)
    print(f"\nNot run within the budget: {missing or 'nothing'}.")


if __name__ == "__main__":
    main()
