"""What would unpack, nest, widen or match into something enormous is refused, in seconds and within the memory of a worker."""

from __future__ import annotations

import pickle
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from mia_core.data.formats import load
from mia_core.data.lists import LONGEST_TEXT, read_lists
from mia_core.errors import DataError
from tests.campaigns.bombs import BOMBS
from tests.campaigns.fuzzing import SECONDS, Outcome, run_part
from tests.campaigns.hostile_uploads import known_interactions


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    return dict(zip(BOMBS, run_part("bombs", 0, len(BOMBS)).outcomes, strict=True))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited and measured by what Linux offers")
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_time_and_in_little_memory(name: str, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[name]
    assert outcome.ending == "refused", outcome.words
    assert re.search(BOMBS[name][2], outcome.words)
    assert outcome.seconds < SECONDS


def test_a_file_of_a_gigabyte_that_is_no_text_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    with path.open("wb") as stream:
        stream.write(b"user,item\na,")
        stream.truncate(2**30)
    with pytest.raises(DataError, match="zero bytes"):
        load(path)


@pytest.mark.parametrize("name", ["*.jsonl", "[a].jsonl", "?.parquet"])
def test_a_name_like_a_pattern_means_one_file_and_not_its_neighbours(name: str, tmp_path: Path) -> None:
    import polars as pl

    for other, user in ((f"a.{name[-5:].strip('.')}", "somebody else"), (name, "mine")):
        table = pl.DataFrame({"user": [user], "item": ["x"]})
        if name.endswith("jsonl"):
            table.write_ndjson(tmp_path / other)
        else:
            table.write_parquet(tmp_path / other)
    assert load(tmp_path / name).frame["user"].to_list() == ["mine"]


def test_ids_that_only_look_alike_stay_two(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("user,item\nZo\u00eb,a\nZoe\u0308,a\n\u0130,a\ni\u0307,a\n\ufb01,a\nfi,a\n", encoding="utf-8")
    assert load(path).frame["user"].n_unique() == 6


@pytest.mark.parametrize("name", ["x" * 300 + ".csv", "a\0b", "~nobody/x.csv"])
def test_a_path_that_no_disk_takes_is_not_there(name: str) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        load(Path(name))


def test_half_a_character_in_json_ends_in_whole_ones(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"user":"\\ud800","item":"a"}\n{"user":"b","item":"a"}\n')
    users = load(path).frame["user"].to_list()
    assert len(users) == 2
    assert all(user.encode() for user in users)


class Planted:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


@pytest.mark.parametrize(
    "name", ["model.safetensors", "pytorch_model.bin", "tokenizer.json", "spiece.model", "config.json"]
)
def test_a_pickle_by_any_name_in_a_model_folder_is_never_opened(name: str, tmp_path: Path) -> None:
    import torch

    from mia_core.errors import ModelError
    from mia_core.experiment import Base
    from mia_core.models.llm.loading import build_offline, load_local, save_model, train_tokenizer

    tokenizer = train_tokenizer(["Rain", "Snow"], ["History: "], 300)
    folder, planted = tmp_path / "model", tmp_path / "planted"
    folder.mkdir()
    save_model(build_offline(Base(family="t5", width=16, layers=2), tokenizer, 0, torch.device("cpu")), folder)
    (folder / name).write_bytes(pickle.dumps(Planted(str(planted))))
    if name in ("pytorch_model.bin", "spiece.model"):
        load_local(folder, torch.device("cpu"))
    else:
        with pytest.raises(ModelError):
            load_local(folder, torch.device("cpu"))
    assert not planted.exists()


def test_titles_that_begin_alike_do_not_slow_down_a_search_in_a_text(tmp_path: Path) -> None:
    interactions = known_interactions()
    titles = ["a " * (i + 1) + "b" for i in range(interactions.items.height)]
    path = tmp_path / "lists.csv"
    path.write_text(f"user,rank,text\n1,1,{'a ' * (LONGEST_TEXT // 2 - 10)}b\n")
    from dataclasses import replace

    import polars as pl

    found = read_lists(path, replace(interactions, items=interactions.items.with_columns(title=pl.Series(titles))))
    assert found.lists["history"]["1"].tolist() == [interactions.items.height - 1]
