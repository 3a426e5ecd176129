"""The data sets that were saved for later audits."""

from __future__ import annotations

from pathlib import Path

from mia_core.data.interactions import Interactions
from mia_core.errors import NotFound
from mia_core.keys import content_key
from mia_core.storage.store import Entry, Store

DATA = ("data-set", "interactions")
"""Kinds of artifacts that are data: those that were saved, and the copy that an audit keeps."""


def key_of(interactions: str) -> str:
    """The key under which interactions of this key are saved."""
    return content_key("data set", 1, {}, [interactions])


def save(store: Store, interactions: Interactions, name: str, created: str = "") -> str:
    """Keeps a data set under a name and returns its key.

    Args:
        created: when it was first saved (ISO 8601, UTC); else it is now.
    """
    key = key_of(interactions.key)
    store.build(key, "data-set", interactions.write, name=name, keep=True, created=created)
    return key


def saved(store: Store) -> list[Entry]:
    """The saved data sets, the newest first."""
    return store.entries("data-set")


def load_saved(store: Store, key: str) -> Interactions:
    """A saved data set.

    Raises:
        NotFound: there is none of that key.
    """
    return Interactions.read(load_folder(store, key))


def load_folder(store: Store, key: str) -> Path:
    """The folder of a saved data set."""
    folder = store.find(key)
    if folder is None:
        if key in {loss.key for loss in store.losses()}:
            raise NotFound("data.key: this data set was damaged on the disk and set aside; upload it once more")
        raise NotFound(
            f"data.key: there is no saved data set {key[:12]}…; choose one on the Data page or save it again"
        )
    return folder
