"""The interactions that a config names, wherever they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mia_core.data import formats, library, synthetic
from mia_core.data.interactions import Interactions
from mia_core.data.sessions import sessions
from mia_core.data.thinning import thin
from mia_core.errors import NotFound
from mia_core.storage.store import Store

if TYPE_CHECKING:
    from mia_core.experiment import Data


def open_interactions(data: Data, seed: int, store: Store) -> Interactions:
    """The interactions that a config names, as sessions and thinned where it says so."""
    return thin(sessions(_whole(data, seed, store), **data.sessions.model_dump()), seed, **data.thin.model_dump())


def _whole(data: Data, seed: int, store: Store) -> Interactions:
    if data.source == "built-in":
        return synthetic.generate(data.synthetic, seed)
    if data.source == "data-set":
        return library.load_saved(store, data.key)
    if data.source == "kept":
        kept = store.find(data.key)
        if kept is None:
            raise NotFound("the data of this audit are no longer in the store; run the audit again with its data")
        return Interactions.read(kept)
    # A click that comes again later belongs to another session.
    repeats = True if data.sessions.by in ("id", "gap") else None
    return formats.load(Path(data.path), data.format, data.columns, repeats=repeats)
