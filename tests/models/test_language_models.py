"""Where models come from, and what must never be opened."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mia_core.errors import ModelError
from mia_core.experiment import Base, Lora, Training
from mia_core.models.device import choose_device
from mia_core.models.llm.distillation import agreement, check_same_tokens, distillation_loss
from mia_core.models.llm.language_model import LanguageModel
from mia_core.models.llm.loading import (
    add_lora,
    build_offline,
    fetch_from_hub,
    load_adapter,
    load_local,
    save_model,
    train_tokenizer,
)
from mia_core.models.llm.training import fit, hard_loss, length_bucketed_batches, validation_loss
from mia_core.observe.observations import observe

CPU = torch.device("cpu")
TITLES = [f"Film {i} ({1950 + i})" for i in range(40)]
PROMPTS = [f"History: {TITLES[i]} ; {TITLES[i + 1]} Next:" for i in range(30)]
ANSWERS = [TITLES[i + 2] for i in range(30)]
FAMILIES = ["t5", "gpt2", "llama"]
QUICK = Training(epochs=3, learning_rate=5e-3, batch_size=8)


def tiny(family: str, seed: int = 0, vocabulary: int = 320) -> LanguageModel:
    tokenizer = train_tokenizer(TITLES, ["History: ", " Next:", " ; "], vocabulary)
    return build_offline(Base(family=family, width=32, layers=2), tokenizer, seed, CPU)


@pytest.mark.parametrize("family", FAMILIES)
def test_training_makes_the_trained_answers_likelier(family: str) -> None:
    model = tiny(family)
    samples = model.encode(PROMPTS, ANSWERS)
    before = validation_loss(model, samples, 8)
    fit(model, samples, hard_loss(), QUICK, seed=1)
    assert validation_loss(model, samples, 8) < before - 0.5


@pytest.mark.parametrize("family", FAMILIES)
def test_a_title_without_end_is_cut_and_asked_about(family: str) -> None:
    model = tiny(family)
    (short, long) = model.encode(PROMPTS[:1] * 2, [ANSWERS[0], "x" * 40_000])
    assert long.answer[-1] == short.answer[-1]
    assert len(long.answer) > 500
    said = observe(model, PROMPTS[:1], ["x" * 40_000])
    assert np.isfinite(said.log_probability).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_model_answers_the_same(family: str, tmp_path: Path) -> None:
    model = tiny(family)
    save_model(model, tmp_path)
    again = load_local(tmp_path, CPU)
    first, second = observe(model, PROMPTS, ANSWERS), observe(again, PROMPTS, ANSWERS)
    torch.testing.assert_close(torch.tensor(first.log_probability), torch.tensor(second.log_probability))


@pytest.mark.parametrize("family", FAMILIES)
def test_with_the_adapter_off_a_lora_target_is_its_base(family: str, tmp_path: Path) -> None:
    base = tiny(family)
    untouched = observe(base, PROMPTS, ANSWERS).log_probability
    frozen = {name: p.clone() for name, p in base.network.named_parameters()}
    target = add_lora(base, Lora(rank=4), seed=0)
    fit(target, target.encode(PROMPTS, ANSWERS), hard_loss(), QUICK, seed=1)
    tuned = observe(target, PROMPTS, ANSWERS).log_probability
    assert abs(tuned - untouched).max() > 0.05
    with target.adapter_off():
        torch.testing.assert_close(
            torch.tensor(observe(target, PROMPTS, ANSWERS).log_probability), torch.tensor(untouched)
        )
    save_model(target, tmp_path)
    fresh = tiny(family)
    for name, parameter in fresh.network.named_parameters():
        torch.testing.assert_close(parameter, frozen[name])
    again = load_adapter(fresh, tmp_path)
    torch.testing.assert_close(torch.tensor(observe(again, PROMPTS, ANSWERS).log_probability), torch.tensor(tuned))


def test_training_that_was_killed_goes_on_from_its_last_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mia_core.models.llm.training.CHECKPOINT_EVERY_SECONDS", 0.0)
    whole = tiny("t5")
    samples = whole.encode(PROMPTS, ANSWERS)
    fit(whole, samples, hard_loss(), QUICK, seed=1)

    class Killed(Exception):
        pass

    def kill_in_the_third_epoch(fraction: float) -> None:
        if fraction > 0.7:
            raise Killed

    with pytest.raises(Killed):
        fit(tiny("t5"), samples, hard_loss(), QUICK, seed=1, scratch=tmp_path, on_progress=kill_in_the_third_epoch)
    resumed, epochs = tiny("t5", seed=5), []
    fit(resumed, samples, hard_loss(), QUICK, seed=1, scratch=tmp_path, on_progress=epochs.append)
    assert min(epochs) > 2 / 3
    for one, other in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_gradients_added_up_over_small_batches_equal_one_large_batch() -> None:
    samples = tiny("gpt2").encode(PROMPTS[:16], ANSWERS[:16])
    large, small = tiny("gpt2"), tiny("gpt2")
    fit(large, samples, hard_loss(), Training(epochs=1, batch_size=16), seed=1)
    fit(small, samples, hard_loss(), Training(epochs=1, batch_size=4, accumulation=4), seed=1)
    for one, other in zip(large.network.parameters(), small.network.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-3)


def test_early_stop_ends_when_the_validation_loss_no_longer_falls() -> None:
    model = tiny("t5")
    fractions: list[float] = []
    training = Training(epochs=60, learning_rate=2e-2, batch_size=8, early_stop=True, patience=1)
    samples, others = model.encode(PROMPTS[:8], ANSWERS[:8]), model.encode(PROMPTS[20:], ANSWERS[20:])
    fit(model, samples, hard_loss(), training, seed=1, validation=others, on_progress=fractions.append)
    assert max(fractions) < 0.9


def test_every_sample_is_in_one_batch_of_similar_length() -> None:
    lengths = list(range(1, 100))
    batches = length_bucketed_batches(lengths, 8, seed=0, epoch=1)
    assert sorted(i for batch in batches for i in batch) == list(range(99))
    assert max(max(b) - min(b) for b in batches) < 30
    assert batches != length_bucketed_batches(lengths, 8, seed=0, epoch=2)


@pytest.mark.parametrize(("teacher_family", "student_family"), [("t5", "t5"), ("t5", "gpt2"), ("llama", "t5")])
def test_a_student_comes_to_answer_like_its_teacher(teacher_family: str, student_family: str) -> None:
    teacher, student = tiny(teacher_family), tiny(student_family, seed=3)
    samples = teacher.encode(PROMPTS, ANSWERS)
    fit(teacher, samples, hard_loss(), QUICK, seed=1)
    check_same_tokens(teacher, student)
    far, _ = agreement(teacher, student, samples)
    fit(
        student,
        samples,
        distillation_loss(teacher, 0.0, 2.0),
        Training(epochs=6, learning_rate=5e-3, batch_size=8),
        seed=2,
    )
    near, same = agreement(teacher, student, samples)
    assert near < far / 2
    assert 0 <= same <= 1
    assert agreement(teacher, teacher, samples) == pytest.approx((0.0, 1.0), abs=1e-6)


def test_distillation_with_hard_weight_one_is_plain_training() -> None:
    teacher, one, other = tiny("t5"), tiny("t5", seed=3), tiny("t5", seed=3)
    samples = teacher.encode(PROMPTS, ANSWERS)
    fit(one, samples, distillation_loss(teacher, 1.0, 2.0), QUICK, seed=2)
    fit(other, samples, hard_loss(), QUICK, seed=2)
    for a, b in zip(one.network.parameters(), other.network.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_student_with_other_tokens_is_refused() -> None:
    with pytest.raises(ModelError, match=r"distillation\.student"):
        check_same_tokens(tiny("t5"), tiny("t5", vocabulary=300))


def test_popular_titles_become_few_tokens_and_any_text_survives() -> None:
    tokenizer = train_tokenizer(TITLES * 5, ["History: ", " Next:", " ; "], 700)
    assert len(tokenizer.tokenize(TITLES[3])) <= 3
    for text in ("Film 3 (1953)", "naïve café 🎬 — 七人"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer(" " + TITLES[3])["input_ids"] == tokenizer(TITLES[3])["input_ids"]


def broken(folder: Path, what: str) -> None:
    if what == "no weights":
        (folder / "model.safetensors").unlink()
    elif what == "pickled":
        (folder / "model.safetensors").unlink()
        torch.save({}, folder / "pytorch_model.bin")
    elif what == "cut":
        (folder / "model.safetensors").write_bytes(b"\x00" * 20)
    elif what == "part":
        weights = load_file(folder / "model.safetensors")
        weights.pop("decoder.block.0.layer.0.SelfAttention.q.weight")
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    elif what == "tokenizer":
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        (folder / "tokenizer.json").write_text(json.dumps({**tokenizer, "padding": 7}))
    elif what == "code":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "evil.Model"}}))
    elif what == "family":
        (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    elif what == "json":
        (folder / "config.json").write_text("{")
    elif what == "config":
        (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("no weights", "no weights"),
        ("pickled", "pickled weights, which are never opened"),
        ("cut", "does not load"),
        ("part", "1 weights are missing"),
        ("tokenizer", "does not load"),
        ("code", "never run"),
        ("family", "model_type is 'bert'"),
        ("json", "not readable JSON"),
        ("config", "no config.json"),
    ],
)
def test_a_bad_model_folder_is_explained(what: str, said: str, tmp_path: Path) -> None:
    save_model(tiny("t5"), tmp_path)
    broken(tmp_path, what)
    with pytest.raises(ModelError, match=said) as caught:
        load_local(tmp_path, CPU)
    assert "base.path" in str(caught.value)


def test_an_adapter_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    save_model(add_lora(tiny("t5"), Lora(rank=2), 0), tmp_path)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    weights.pop(min(weights))
    save_file(weights, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="1 weights are missing"):
        load_adapter(tiny("t5"), tmp_path)


def test_a_missing_folder_and_a_pickled_adapter_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        load_local(tmp_path / "nowhere", CPU)
    (tmp_path / "adapter_model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match="pickled"):
        load_adapter(tiny("t5"), tmp_path)


@pytest.mark.parametrize("hub_id", ["../secret", "a/../b", "a/b/c", "", "a b", "https://x/y", "a--b", "/etc"])
def test_a_malformed_hub_id_never_reaches_the_network(hub_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: pytest.fail("asked the network"))
    with pytest.raises(ModelError, match=r"base\.hub_id"):
        fetch_from_hub(hub_id, "")


def test_a_model_in_hub_layout_is_loaded_at_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "models--tiny--t5" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    save_model(tiny("t5"), snapshot)
    (tmp_path / "models--tiny--t5" / "refs").mkdir()
    (tmp_path / "models--tiny--t5" / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    try:
        folder, resolved = fetch_from_hub("tiny/t5", "")
    except ModelError:
        pytest.skip("this huggingface_hub reads its cache folder once, at import")
    assert resolved == commit
    assert load_local(folder, CPU).family.name == "t5"
    shutil.rmtree(tmp_path / "models--tiny--t5")


def test_a_gpu_that_is_not_there_is_explained() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert choose_device("auto").type == "cpu"
    with pytest.raises(ModelError, match="device is 'cuda'"):
        choose_device("cuda")
