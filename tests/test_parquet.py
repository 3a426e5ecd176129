"""Tables in folders of any name."""

from __future__ import annotations

from pathlib import Path

import pytest

from mia_core import parquet
from mia_core.data import library, synthetic
from mia_core.experiment import Synthetic
from mia_core.storage.store import Store


@pytest.mark.parametrize("name", ["a[b]*c", "**", "what?", "user=3"])
def test_a_home_folder_may_be_called_anything(tmp_path: Path, name: str) -> None:
    made = synthetic.generate(Synthetic(users=40, items=20), 0)
    store = Store(tmp_path / name)
    key = library.save(store, made, "Films")
    # Another folder that such a pattern would match.
    library.save(Store(tmp_path / "abxc"), synthetic.generate(Synthetic(users=30, items=20), 1), "Others")
    assert library.load_saved(store, key).key == made.key
    table = library.load_folder(store, key) / "interactions.parquet"
    assert parquet.scan(table).collect().equals(made.frame)
    assert parquet.scan(table, 3).collect().height == 3
    assert parquet.read(table, ["user"]).equals(made.frame.select("user"))
    assert parquet.columns_of(table) == made.frame.columns
