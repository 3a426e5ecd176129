"""How strong each attack is on real data: one Markdown table, made by resumable audits.

    python benchmarks/strength.py DATA_FOLDER [--seeds 0 1 2] [--only ml-latest-small ...]

DATA_FOLDER holds ml-latest-small, lastfm-2k and book-crossing. Audits lie in the store (MIA_HOME), so a second run
prints at once what is there and goes on with what is missing.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mia_core.experiment import Experiment, parse_experiment
from mia_core.pipeline import run_audit
from mia_core.report.results import AuditResult
from mia_core.storage.store import Store

SETTINGS: dict[str, dict[str, Any]] = {
    "ml-latest-small": {"base": {"family": "t5"}, "prompt": {"history": 8, "windows": 3}},
    "ml-latest-small, null world": {
        "base": {"family": "t5"},
        "prompt": {"history": 8, "windows": 3},
        "target": {"world": "null"},
    },
    "lastfm-2k": {
        "base": {"family": "gpt2"},
        "prompt": {"history": 8, "windows": 4},
        "target": {"training": {"epochs": 5}},
    },
    "book-crossing": {"base": {"family": "t5"}, "prompt": {"history": 4, "windows": 3}},
}
FIGURES = ("auc", "tpr_at_fpr_0.05", "tpr_at_fpr_0.01", "accuracy", "f1")


def experiment(name: str, folder: Path, seed: int) -> Experiment:
    """The audit of one data set with one seed; all settings are fixed beforehand, none is tuned on audited users."""
    source = {"source": "file", "path": str(folder / name.partition(",")[0])}
    return parse_experiment({"name": f"{name}, seed {seed}", "seed": seed, "data": source, **SETTINGS[name]})


def rows(name: str, seed: int, result: AuditResult) -> list[str]:
    """Markdown rows, one per attack."""
    lines = []
    for attack in result.attacks:
        cells = []
        for figure in FIGURES:
            metric = result.metric(attack.name, figure)
            if metric is None or metric.value is None:
                cells.append("–")
            else:
                cells.append(f"{metric.value:.3f} ({metric.low:.3f}–{metric.high:.3f})")
        lines.append(f"| {name} | {seed} | {attack.name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Runs what is missing and prints everything."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", default=list(SETTINGS))
    arguments = parser.parse_args()
    store = Store()
    print("| data | seed | attack | AUC | TPR at 5% FPR | TPR at 1% FPR | accuracy | F1 |")
    print("|---|---|---|---|---|---|---|---|")
    for seed in arguments.seeds:
        for name in arguments.only:
            result = run_audit(experiment(name, arguments.folder, seed), store)
            print("\n".join(rows(name, seed, result)), flush=True)
            quality = {
                q.recommender: f"HR@10 {q.hit_rate_at_10:.2f}, NDCG@10 {q.ndcg_at_10:.2f}" for q in result.quality
            }
            seconds = sum(stage.seconds for stage in result.stages)
            print(f"<!-- {name}, seed {seed}: {quality}; {seconds:.0f} s; {result.device} -->", flush=True)


if __name__ == "__main__":
    main()
