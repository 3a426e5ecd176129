"""K LoRA adapters trained together over one frozen base against K trainings of one adapter through peft.

    python benchmarks/adapters.py [--family t5] [--adapters 16] [--samples 320] [--history 9]

Both take the same steps on the same samples with the same offline base (random weights serve), in the same process; the
ratio is what counts. One after another is timed on two of the adapters, in turn with all together.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from mia_core.data.prompts import PROMPT_STYLES, PromptWriter, audit_samples, events_by_user
from mia_core.data.synthetic import generate
from mia_core.experiment import Base, Lora, Synthetic, Training
from mia_core.models.llm.loading import add_lora, build_offline, train_tokenizer
from mia_core.models.llm.stacked_adapters import StackedAdapters, fit_stacked
from mia_core.models.llm.training import fit, hard_loss
from mia_core.observe.observations import Encoded

LORA = Lora()
TRAINING = Training(epochs=1)


def main() -> None:
    """Times both, alternating, and prints the best of three of each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--family", default="t5", choices=["t5", "gpt2", "llama"])
    parser.add_argument("--adapters", type=int, default=16)
    parser.add_argument("--samples", type=int, default=320, help="training samples of each adapter")
    parser.add_argument("--history", type=int, default=9, help="items in a prompt")
    arguments = parser.parse_args()
    made = generate(Synthetic(users=400, items=300, mean_history=40), 0)
    titles = dict(zip(made.items["item"], made.items["title"], strict=True))
    style = PROMPT_STYLES["next_item"]
    writer = PromptWriter(style, style.template, " ; ", arguments.history, titles, 0.0)
    samples = audit_samples(sorted(set(made.frame["user"])), events_by_user(made, writer), writer, 3)
    tokenizer = train_tokenizer([titles[item] for item in made.frame["item"]], writer.literals, 4_000)
    model = build_offline(Base(family=arguments.family), tokenizer, 0, torch.device("cpu"))
    encoded = model.encode(samples.prompts, samples.answers)
    rng = np.random.default_rng(0)
    sets = [[encoded[i] for i in rng.permutation(len(encoded))[: arguments.samples]] for _ in range(arguments.adapters)]

    def one_alone(own: list[Encoded]) -> None:
        adapter = add_lora(model, LORA, 0)
        fit(adapter, own, hard_loss(), TRAINING, seed=0)
        adapter.network.unload()

    def together() -> None:
        fit_stacked(StackedAdapters(model, LORA, range(len(sets))), sets, hard_loss(), TRAINING, seed=0)

    one_alone(sets[0][:32])
    alone, stacked = [], []
    for repeat in range(3):
        started = time.perf_counter()
        for own in sets[2 * repeat : 2 * repeat + 2]:
            one_alone(own)
        alone.append((time.perf_counter() - started) / 2 * len(sets))
        started = time.perf_counter()
        together()
        stacked.append(time.perf_counter() - started)
    tokens = np.mean([len(sample.prompt) + len(sample.answer) for sample in encoded])
    print(f"{arguments.family}, {len(sets)} adapters x {len(sets[0])} samples of {tokens:.0f} tokens, one epoch")
    print(f"one after another: {min(alone):.1f} s ({len(sets)} times one)")
    print(f"together: {min(stacked):.1f} s")
    print(f"ratio: {min(alone) / min(stacked):.2f} ({torch.get_num_threads()} threads)")


if __name__ == "__main__":
    main()
