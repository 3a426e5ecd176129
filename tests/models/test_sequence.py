"""Recommenders whose tokens are items."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from mia_core.data.prompts import SEPARATOR
from mia_core.errors import DataError, ModelError
from mia_core.experiment import Base, Training
from mia_core.models.llm.distillation import agreement, distillation_loss
from mia_core.models.llm.gradients import gradient_norms
from mia_core.models.llm.training import fit, hard_loss, validation_loss
from mia_core.models.sequence import SequenceModel, build_sequence, is_sequence, load_sequence, save_sequence
from mia_core.models.sequence_families import END, FIRST_ITEM, HIDDEN, LONGEST, START
from mia_core.observe.observations import Encoded, observe
from mia_core.observe.output_vectors import output_vectors

CPU = torch.device("cpu")
FAMILIES = ["xlnet", "sasrec"]
ITEMS = [f"item {i:02d}" for i in range(30)]
QUICK = Training(epochs=10, learning_rate=5e-3, batch_size=16)


def tiny(family: str, seed: int = 0, items: list[str] = ITEMS, width: int = 32) -> SequenceModel:
    return build_sequence(Base(family=family, width=width, layers=2), items, seed, CPU)


def walks(count: int, seed: int = 0) -> list[str]:
    """Histories in which each item is followed by the next of the catalogue."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        start, length = rng.integers(0, len(ITEMS)), rng.integers(2, 8)
        found.append(SEPARATOR.join(ITEMS[(start + k) % len(ITEMS)] for k in range(length)))
    return found


def strangers(count: int, seed: int) -> list[str]:
    """Histories without any rule."""
    rng = np.random.default_rng(seed)
    return [SEPARATOR.join(rng.permutation(ITEMS)[: rng.integers(3, 9)]) for _ in range(count)]


def encoded(model: SequenceModel, histories: list[str]) -> list[Encoded]:
    return model.encode([""] * len(histories), histories)


def seen(model: SequenceModel, histories: list[str]) -> np.ndarray:
    return observe(model, [""] * len(histories), histories).sample_mean("log_probability")


@pytest.fixture(scope="module")
def walker() -> Callable[[str], SequenceModel]:
    """Models that have learned what follows what; nobody may change them."""

    @cache
    def trained(family: str) -> SequenceModel:
        model = tiny(family)
        training = Training(epochs=60 if family == "xlnet" else 20, learning_rate=3e-3, batch_size=32)
        fit(model, encoded(model, walks(200)), hard_loss(), training, seed=1)
        return model

    return trained


@torch.no_grad()
def one_prefix_at_a_time(model: SequenceModel, tokens: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """log p of all items before each token of a history, and the hidden vectors it was read from."""
    rows, vectors = [], []
    for t in range(len(tokens)):
        shown = [START, *tokens[:t], *([HIDDEN, END] if model.family.name == "xlnet" else [])]
        told = len(shown) - 2 if model.family.name == "xlnet" else -1
        outputs = model.network(input_ids=torch.tensor([shown]), output_hidden_states=True)
        rows.append(torch.log_softmax(outputs.logits[0, told].double(), 0))
        vectors.append(torch.stack([layer[0, told] for layer in outputs.hidden_states[1:]]))
    return torch.stack(rows), torch.stack(vectors).mean(0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_says_of_each_item_what_its_own_past_alone_says(
    family: str, walker: Callable[[str], SequenceModel]
) -> None:
    model = walker(family)
    histories = [*walks(6, seed=2), *strangers(6, seed=3), ITEMS[4]]
    for tokens_per_batch in (None, 7):
        found = observe(model, [""] * len(histories), histories, tokens_per_batch=tokens_per_batch)
        for i, sample in enumerate(encoded(model, histories)):
            log_p, vectors = one_prefix_at_a_time(model, sample.answer)
            mine = slice(found.offsets[i], found.offsets[i + 1])
            expected = [float(row[token]) for row, token in zip(log_p, sample.answer, strict=True)]
            np.testing.assert_allclose(found.log_probability[mine], expected, atol=1e-3)
            np.testing.assert_array_equal(found.top_token[mine], log_p.argmax(1))
            np.testing.assert_allclose(found.hidden[i], vectors, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_comes_later_tells_nothing_about_an_item(family: str) -> None:
    model = tiny(family)
    first, other = strangers(1, seed=1)[0].split(SEPARATOR), [ITEMS[0], ITEMS[9]]
    whole = observe(model, ["", ""], [SEPARATOR.join(first), SEPARATOR.join([*first[:2], *other])])
    np.testing.assert_allclose(whole.log_probability[:2], whole.log_probability[len(first) :][:2], atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_shown_history_and_an_asked_item_are_the_end_of_the_whole(family: str) -> None:
    model = tiny(family)
    (history,) = strangers(1, seed=1)
    shown, _, last = history.rpartition(SEPARATOR)
    whole, end = observe(model, [""], [history]), observe(model, [shown], [last])
    np.testing.assert_allclose(end.log_probability, whole.log_probability[-1:], atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_it_learns_what_follows_what(family: str, walker: Callable[[str], SequenceModel]) -> None:
    fresh = walks(50, seed=9)
    found = observe(walker(family), [""] * len(fresh), fresh)
    later = np.setdiff1d(np.arange(len(found.token)), found.offsets[:-1])
    assert (found.rank[later] == 0).mean() > 0.9
    # Nothing tells the first item: it is one of thirty.
    assert np.exp(found.log_probability[found.offsets[:-1]]).mean() < 0.15


@pytest.mark.parametrize("family", FAMILIES)
def test_what_was_learned_by_heart_is_told_from_what_was_not(family: str) -> None:
    model = tiny(family, width=64)
    members, others = strangers(40, seed=1), strangers(60, seed=2)
    training = Training(epochs=60 if family == "xlnet" else 20, learning_rate=2e-3, batch_size=8)
    samples = encoded(model, members)
    before = seen(model, [*members, *others]), gradient_norms(model, samples[:5])
    for weight in model.network.parameters():
        weight.requires_grad_(True)
    fit(model, samples, hard_loss(), training, seed=1)
    truth = np.arange(100) < 40
    assert 0.35 < roc_auc_score(truth, before[0]) < 0.65
    assert roc_auc_score(truth, seen(model, [*members, *others])) > 0.9
    assert np.isfinite(before[1]).all()
    assert (before[1] > 0).all()


def test_masked_training_hides_something_of_every_history_and_answers_with_it() -> None:
    model = tiny("xlnet")
    torch.manual_seed(0)
    histories = [encoded(model, [SEPARATOR.join(ITEMS[:n])])[0] for n in (1, 2, 5, 20)] * 300
    hidden = np.zeros(len(histories))
    for i, (whole, asked) in enumerate(zip(histories, model.asked_in_training(histories), strict=True)):
        missing = iter(asked.answer)
        assert tuple(next(missing) if token == HIDDEN else token for token in asked.prompt) == whole.answer
        assert next(missing, None) is None
        hidden[i] = len(asked.answer)
    assert hidden.min() == 1
    # One for sure, and of the others a fifth.
    np.testing.assert_allclose(hidden.reshape(-1, 4).mean(0), [1, 1.2, 1.8, 4.8], atol=0.4)
    assert {asked.prompt for asked in model.asked_in_training(histories[1:2] * 50)} == {
        (HIDDEN, HIDDEN),
        (HIDDEN, FIRST_ITEM + 1),
        (FIRST_ITEM, HIDDEN),
    }


def test_a_causal_family_learns_where_a_history_ends() -> None:
    model = tiny("sasrec")
    pairs = [SEPARATOR.join(ITEMS[i : i + 2]) for i in range(20)]
    fit(model, encoded(model, pairs * 10), hard_loss(), QUICK, seed=1)
    (sample,) = encoded(model, [SEPARATOR.join(ITEMS[4:6])])
    with torch.no_grad():
        logits, _ = model.answer_outputs([Encoded((), (*sample.answer, END))]).asked()
    ends = torch.softmax(logits, 1)[:, END]
    assert ends[2] > 0.9
    assert ends[:2].max() < 0.1


def test_gaps_are_filled_from_both_sides(walker: Callable[[str], SequenceModel]) -> None:
    before, gap, after = FIRST_ITEM + 3, FIRST_ITEM + 4, FIRST_ITEM + 5
    outputs = walker("xlnet").answer_outputs(
        [Encoded((before, HIDDEN, after), (gap,)), Encoded((HIDDEN, after), (gap,))]
    )
    logits, labels = outputs.asked()
    assert labels.tolist() == [gap, gap]
    assert logits.argmax(1).tolist() == [gap, gap]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_model_says_the_same(family: str, tmp_path: Path) -> None:
    model = tiny(family)
    save_sequence(model, tmp_path)
    assert is_sequence(tmp_path)
    again = load_sequence(tmp_path, CPU)
    assert again.items == model.items
    assert again.family.name == family
    np.testing.assert_array_equal(seen(again, walks(5)), seen(model, walks(5)))
    assert not is_sequence(tmp_path.parent)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("items.json", '["a"]'),
        ("items.json", "{"),
        ("config.json", '{"model_type": "bert"}'),
        ("model.safetensors", "\x00" * 20),
        ("model.safetensors", None),
    ],
)
def test_a_broken_folder_is_explained(name: str, content: str | None, tmp_path: Path) -> None:
    save_sequence(tiny("sasrec"), tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ModelError, match="run the audit again"):
        load_sequence(tmp_path, CPU)


def test_seeds_and_the_order_of_the_items() -> None:
    one, same, other = tiny("xlnet"), tiny("xlnet", items=ITEMS[::-1]), tiny("xlnet", seed=1)
    np.testing.assert_array_equal(seen(one, walks(5)), seen(same, walks(5)))
    assert (seen(one, walks(5)) != seen(other, walks(5))).all()


def test_an_unknown_item_is_named_with_the_way_out() -> None:
    with pytest.raises(DataError, match=r"'item 77'.*30 items.*data that the audit was made with"):
        tiny("xlnet").encode([""], [SEPARATOR.join([ITEMS[0], "item 77"])])


def test_a_history_without_items_is_refused() -> None:
    with pytest.raises(DataError, match="sample 1"):
        observe(tiny("sasrec"), ["", ""], [ITEMS[0], ""])


def test_of_a_history_that_is_too_long_the_latest_items_count() -> None:
    model = tiny("sasrec")
    (sample,) = model.encode([SEPARATOR.join(ITEMS[:20] * 60)], [SEPARATOR.join(ITEMS[20:])])
    assert len(sample.prompt) + len(sample.answer) == LONGEST
    assert sample.answer == tuple(range(FIRST_ITEM + 20, FIRST_ITEM + 30))
    assert sample.prompt[-1] == FIRST_ITEM + 19
    assert np.isfinite(seen(model, [SEPARATOR.join(ITEMS[:20] * 60)])).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_training_that_was_killed_goes_on_from_its_last_epoch(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mia_core.models.llm.training.CHECKPOINT_EVERY_SECONDS", 0.0)
    whole, killed, resumed = (tiny(family) for _ in range(3))
    samples, training = encoded(whole, walks(30)), Training(epochs=3, learning_rate=5e-3, batch_size=8)
    fit(whole, samples, hard_loss(), training, seed=1)

    def kill(fraction: float) -> None:
        if fraction > 0.7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(killed, samples, hard_loss(), training, seed=1, scratch=tmp_path, on_progress=kill)
    fit(resumed, samples, hard_loss(), training, seed=1, scratch=tmp_path)
    for one, other in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("teacher", "student"), [("xlnet", "xlnet"), ("sasrec", "sasrec"), ("xlnet", "sasrec")])
def test_a_student_comes_to_answer_like_its_teacher(
    teacher: str, student: str, walker: Callable[[str], SequenceModel]
) -> None:
    master, pupil = walker(teacher), tiny(student, seed=3)
    samples = encoded(master, walks(100))
    far, _ = agreement(master, pupil, samples)
    training = Training(epochs=60 if student == "xlnet" else 10, learning_rate=5e-3, batch_size=16)
    fit(pupil, samples, distillation_loss(master, 0.0, 2.0), training, seed=2)
    near, same = agreement(master, pupil, samples)
    assert near < far / 2
    assert same > 0.6
    assert agreement(master, master, samples) == pytest.approx((0.0, 1.0), abs=1e-6)


def test_a_causal_teacher_is_not_asked_to_fill_gaps() -> None:
    teacher, student = tiny("sasrec"), tiny("xlnet")
    with pytest.raises(ModelError, match=r"distillation\.student.*'sasrec'"):
        fit(student, encoded(student, walks(4)), distillation_loss(teacher, 0.0, 2.0), QUICK, seed=1)


@pytest.mark.parametrize("family", FAMILIES)
def test_early_stop_looks_at_the_next_item_of_other_histories(family: str) -> None:
    model = tiny(family)
    members, others = encoded(model, strangers(8, seed=1)), encoded(model, strangers(8, seed=2))
    training = Training(epochs=80, learning_rate=2e-2, batch_size=8, early_stop=True, patience=1)
    fractions: list[float] = []
    fit(model, members, hard_loss(), training, seed=1, validation=others, on_progress=fractions.append)
    assert max(fractions) < 0.9
    assert validation_loss(model, others, 8) == pytest.approx(
        -observe(model, [""] * 8, strangers(8, seed=2)).log_probability.mean(), rel=1e-4
    )


def test_noise_on_the_items_changes_answers_by_its_seed() -> None:
    plain = seen(tiny("xlnet"), walks(5))
    noisy = [seen(tiny("xlnet").add_embedding_noise(0.5, seed), walks(5)) for seed in (1, 1, 2)]
    assert (noisy[0] != plain).all()
    np.testing.assert_array_equal(noisy[0], noisy[1])
    assert (noisy[0] != noisy[2]).all()


def test_batches_shrink_as_the_catalogue_grows() -> None:
    assert tiny("xlnet").tokens_at_once > 100_000
    many = build_sequence(Base(family="sasrec", width=16, layers=2), [str(i) for i in range(60_000)], 0, CPU)
    assert many.tokens_at_once < 1_000
    assert len(seen(many, [SEPARATOR.join(map(str, range(20)))])) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_output_vectors_are_what_the_last_position_and_all_positions_say(family: str) -> None:
    model = tiny(family)
    histories = [*strangers(5, seed=1), ITEMS[2], SEPARATOR.join(ITEMS[:25])]
    last, together = output_vectors(model, [""] * len(histories), histories, width=8, seed=3)
    assert last.shape == (7, 8)
    squares = together.reshape(7, 20, 20)
    for i, sample in enumerate(encoded(model, histories)):
        log_p, _ = one_prefix_at_a_time(model, sample.answer)
        tokens = sample.answer[-20:]
        square = log_p[-20:][:, list(tokens)]
        np.testing.assert_allclose(squares[i, : len(tokens), : len(tokens)], square, atol=1e-4)
        assert not squares[i, len(tokens) :].any()
        assert not squares[i, :, len(tokens) :].any()
    again, _ = output_vectors(model, [""] * 2, histories[1::-1], width=8, seed=3)
    np.testing.assert_allclose(again[::-1], last[:2], atol=1e-6)
    assert not np.allclose(output_vectors(model, [""], histories[:1], width=8, seed=4)[0], last[:1])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_next_item_is_told_among_all_items(family: str, walker: Callable[[str], SequenceModel]) -> None:
    model = walker(family)
    histories = [*walks(4, seed=5), "", ITEMS[3]]
    told = model.next_items(histories)
    np.testing.assert_allclose(np.exp(told).sum(axis=1), 1, rtol=1e-4)
    for row, history in zip(told, histories, strict=True):
        last = history.split(SEPARATOR)[-1]
        if last:
            assert row.argmax() == (ITEMS.index(last) + 1) % len(ITEMS)
            (alone,) = model.next_items([history])
            np.testing.assert_allclose(alone, row, atol=1e-4)
