"""Forgetting on our side: an audit or a data set is deleted with everything that nothing else rests on."""

from __future__ import annotations

from mia_core.report.results import read_result
from mia_core.store import Store


def remove_audit(store: Store, key: str) -> int:
    """Deletes a finished audit with its data, models and observations, except those that other audits share.

    Returns:
        how many artifacts were deleted.
    """
    folder = store.find(key)
    if folder is None:
        return 0
    mine = {key, *read_result(folder).artifacts}
    shared: set[str] = set()
    for entry in store.entries("audit", "point", "placebo"):
        if entry.key not in mine:
            shared |= {entry.key, *read_result(entry.path).artifacts}
    gone = [name for name in mine - shared if store.find(name) is not None]
    for name in gone:
        store.remove(name)
    return len(gone)


def remove_data_set(store: Store, key: str) -> int:
    """Deletes a saved data set and every audit of it.

    Returns:
        how many audits were deleted with it.
    """
    folder = store.find(key)
    if folder is None:
        return 0
    kept = store.entries("audit", "point")
    audits = [entry for entry in kept if read_result(entry.path).config["data"].get("key") == key]
    for entry in audits:
        remove_audit(store, entry.key)
    store.remove(key)
    return len(audits)
