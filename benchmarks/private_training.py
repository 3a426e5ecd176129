"""An epoch of differentially private training by user (DP-SGD) against an epoch of ordinary training.

    python benchmarks/private_training.py [--family t5] [--tuning lora] [--users 400] [--history 9]

Both train the same offline base (random weights serve) on the same windows, in turn, in the same process; the ratio is
what counts.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from mia_core.data.prompts import PROMPT_STYLES, PromptWriter, audit_samples, events_by_user
from mia_core.data.synthetic import generate
from mia_core.experiment import Base, Lora, Synthetic, Training
from mia_core.models.llm.language_model import LanguageModel
from mia_core.models.llm.loading import add_lora, build_offline, train_tokenizer
from mia_core.models.llm.private_training import Privacy, fit_private, guarantee_of
from mia_core.models.llm.training import fit, hard_loss

TRAINING = Training(epochs=1)
PRIVACY = Privacy(epsilon=8.0)


def main() -> None:
    """Times both, alternating, and prints the best of three of each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--family", default="t5", choices=["t5", "gpt2", "llama"])
    parser.add_argument("--tuning", default="lora", choices=["lora", "full"])
    parser.add_argument("--users", type=int, default=400)
    parser.add_argument("--history", type=int, default=9, help="items in a prompt")
    arguments = parser.parse_args()
    made = generate(Synthetic(users=arguments.users, items=300, mean_history=40), 0)
    titles = dict(zip(made.items["item"], made.items["title"], strict=True))
    style = PROMPT_STYLES["next_item"]
    writer = PromptWriter(style, style.template, " ; ", arguments.history, titles, 0.0)
    samples = audit_samples(sorted(set(made.frame["user"])), events_by_user(made, writer), writer, 3)
    tokenizer = train_tokenizer([titles[item] for item in made.frame["item"]], writer.literals, 4_000)
    owner = samples.user_index.tolist()
    # Choosing the noise is no part of an epoch.
    guarantee = guarantee_of(PRIVACY, TRAINING, len(set(owner)))

    def model() -> LanguageModel:
        base = build_offline(Base(family=arguments.family), tokenizer, 0, torch.device("cpu"))
        return add_lora(base, Lora(), 0) if arguments.tuning == "lora" else base

    encoded = model().encode(samples.prompts, samples.answers)
    ordinary, private = [], []
    for _ in range(3):
        one, other = model(), model()
        started = time.perf_counter()
        fit(one, encoded, hard_loss(), TRAINING, seed=0)
        ordinary.append(time.perf_counter() - started)
        started = time.perf_counter()
        fit_private(other, encoded, owner, hard_loss(), TRAINING, PRIVACY, seed=0)
        private.append(time.perf_counter() - started)
    tokens = np.mean([len(sample.prompt) + len(sample.answer) for sample in encoded])
    print(
        f"{arguments.family}, {arguments.tuning}, {len(set(owner))} users, {len(encoded)} windows of {tokens:.0f} tokens, "
        f"{guarantee.steps} private steps of {PRIVACY.units_at_once} users on average"
    )
    print(f"ordinary: {min(ordinary):.1f} s per epoch")
    print(f"DP-SGD by user: {min(private):.1f} s per epoch")
    print(f"ratio: {min(private) / min(ordinary):.2f} ({torch.get_num_threads()} threads)")


if __name__ == "__main__":
    main()
