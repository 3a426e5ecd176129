from __future__ import annotations

from pathlib import Path

import pytest

from mia_core.data import library
from mia_core.data.synthetic import generate
from mia_core.errors import NotFound
from mia_core.experiment import Synthetic
from mia_core.storage.store import Store


def test_a_saved_data_set_comes_back_whole_and_is_kept_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = generate(Synthetic(users=30, items=25), 0)
    key = library.save(store, made, "First 🎬")
    assert library.save(store, made, "Again") == key
    assert [(entry.key, entry.name, entry.keep) for entry in library.saved(store)] == [(key, "First 🎬", True)]
    found = library.load_saved(Store(tmp_path), key)
    assert found.key == made.key
    assert found.notes == made.notes
    with pytest.raises(NotFound, match="choose one on the Data page"):
        library.load_saved(store, "f" * 64)
