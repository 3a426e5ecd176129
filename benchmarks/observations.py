"""Observations per second: one batched pass against one sample at a time with a separate pass per feature.

    python benchmarks/observations.py [--samples 600]

Both run on the same offline T5 (random weights serve) in the same process; the ratio is what counts.
"""

from __future__ import annotations

import argparse
import time

import torch

from mia_core.data.prompts import PROMPT_STYLES, PromptWriter, audit_samples, events_by_user
from mia_core.data.synthetic import generate
from mia_core.experiment import Base, Synthetic
from mia_core.models.llm.language_model import LanguageModel
from mia_core.models.llm.loading import build_offline, train_tokenizer
from mia_core.observe.observations import observe

FEATURES = ("loss", "confidence", "entropy", "hidden")


@torch.inference_mode()
def one_at_a_time(model: LanguageModel, prompts: list[str], answers: list[str]) -> None:
    """What a plain script does: every feature asks the model anew about every sample."""
    for sample in model.encode(prompts, answers):
        for feature in FEATURES:
            outputs = model.answer_outputs([sample], pooled=feature == "hidden")
            log_p = torch.log_softmax(outputs.logits[0].float(), -1)
            if feature == "loss":
                log_p.gather(-1, outputs.labels[0][:, None]).mean().item()
            elif feature == "confidence":
                log_p.exp().amax(-1).mean().item()
            elif feature == "entropy":
                -(log_p.exp() * log_p).sum(-1).mean().item()
            elif outputs.pooled is not None:
                outputs.pooled.numpy()


def main() -> None:
    """Times both, alternating, and prints the best of three of each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=600)
    arguments = parser.parse_args()
    made = generate(Synthetic(users=400, items=300, mean_history=40), 0)
    titles = dict(zip(made.items["item"], made.items["title"], strict=True))
    style = PROMPT_STYLES["next_item"]
    writer = PromptWriter(style, style.template, " ; ", 9, titles, 0.0)
    samples = audit_samples(sorted(set(made.frame["user"])), events_by_user(made, writer), writer, 3)
    samples = samples.take(range(arguments.samples))
    tokenizer = train_tokenizer([titles[item] for item in made.frame["item"]], writer.literals, 4_000)
    model = build_offline(Base(), tokenizer, 0, torch.device("cpu"))
    prompts, answers = list(samples.prompts), list(samples.answers)
    slow_share = max(1, arguments.samples // 6)
    times = {"batched": [], "one at a time": []}  # type: dict[str, list[float]]
    for _ in range(3):
        started = time.perf_counter()
        observe(model, prompts, answers)
        times["batched"].append(time.perf_counter() - started)
        started = time.perf_counter()
        one_at_a_time(model, prompts[:slow_share], answers[:slow_share])
        times["one at a time"].append((time.perf_counter() - started) * arguments.samples / slow_share)
    rates = {name: arguments.samples / min(seconds) for name, seconds in times.items()}
    for name, rate in rates.items():
        print(f"{name}: {rate:.0f} observations per second")
    print(f"ratio: {rates['batched'] / rates['one at a time']:.1f} ({torch.get_num_threads()} threads)")


if __name__ == "__main__":
    main()
