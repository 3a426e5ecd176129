"""What the classic recommenders cost and how well they recommend: seconds, hit rates, and lists by history against own vectors.

    python benchmarks/recommenders.py FOLDER [--factors 100] [--learning-rate 0.01] [--ridge 0.1] [--kinds neural ...]

FOLDER is a data set, such as ml-latest-small. Each user's last item is held back. "all" ranks it among everything the user
did not touch, "100" among 99 of that drawn at random; by the trained vector / by the history alone.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import scipy.sparse
import torch

from mia_core.data.formats import load
from mia_core.experiment import Recommender as Settings
from mia_core.models.recommenders import RECOMMENDERS, recommend


def held_back(folder: Path) -> tuple[scipy.sparse.csr_array, np.ndarray]:
    """Histories without their last item, and those items."""
    data = load(folder)
    items = {item: i for i, item in enumerate(sorted(data.items["item"]))}
    columns = np.array([items[item] for item in data.frame["item"]])
    users = np.unique(data.frame["user"].to_numpy(), return_inverse=True)[1]
    last = np.append(users[1:] != users[:-1], True)
    ones = np.ones(int((~last).sum()), np.float32)
    shape = (users[-1] + 1, len(items))
    return scipy.sparse.csr_array((ones, (users[~last], columns[~last])), shape=shape), columns[last]


def hits(scores: np.ndarray, histories: scipy.sparse.csr_array, answers: np.ndarray) -> tuple[float, float]:
    """Share of users whose held-back item is among the best ten of all, and of a hundred."""
    everywhere = (recommend(scores, histories, 10) == answers[:, None]).any(axis=1).mean()
    rng = np.random.default_rng(0)
    left = 1 - histories.toarray()
    left[np.arange(len(answers)), answers] = 0
    among = []
    for row, answer, untouched in zip(scores, answers, left, strict=True):
        others = row[rng.choice(np.flatnonzero(untouched), 99, replace=False)]
        among.append((others > row[answer]).sum() + 0.5 * (others == row[answer]).sum() < 10)
    return float(everywhere), float(np.mean(among))


def main() -> None:
    """Prints one Markdown row per kind; the seconds are those of one core's work, whatever else the machine does."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--factors", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--ridge", type=float, default=Settings().ridge)
    parser.add_argument("--kinds", nargs="+", default=list(RECOMMENDERS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    histories, answers = held_back(arguments.folder)
    n, everybody = histories.shape[0], np.arange(histories.shape[0])
    print(f"{n} users, {histories.shape[1]} items, {histories.nnz} interactions to learn from")
    print("| kind | fit s | serve s | HR@10, all | HR@10, 100 | lists of 100 shared |\n|---|---|---|---|---|---|")
    for kind in arguments.kinds:
        settings = Settings(
            kind=kind, factors=arguments.factors, learning_rate=arguments.learning_rate, ridge=arguments.ridge
        )
        started = time.process_time()
        model = RECOMMENDERS[kind].fit(settings, histories, 0, lambda share: None)
        fitted = time.process_time()
        by_history = model.scores(histories)
        folded = recommend(by_history, histories, 100)
        served = time.process_time()
        by_vector = model.own_scores(everybody)
        own = recommend(by_vector, histories, 100)
        shared = np.mean([len(np.intersect1d(a, b)) for a, b in zip(own, folded, strict=True)]) / 100
        figures = zip(hits(by_vector, histories, answers), hits(by_history, histories, answers), strict=True)
        cells = " | ".join(f"{vector:.3f} / {history:.3f}" for vector, history in figures)
        print(f"| {kind} | {fitted - started:.1f} | {served - fitted:.1f} | {cells} | {shared:.2f} |", flush=True)


if __name__ == "__main__":
    main()
