"""Forgetting on our side: an audit or a data set is deleted with everything that nothing else rests on."""

from __future__ import annotations

from mia_core.report.forgetting import read_forgetting
from mia_core.report.results import read_result
from mia_core.store import Store


def remove_audit(store: Store, key: str) -> int:
    """Deletes a finished audit with its data, models and observations, except those that other audits share.

    Returns:
        how many artifacts were deleted.
    """
    return _remove(store, key)


def remove_forgetting(store: Store, key: str) -> int:
    """Deletes a check whether a model has forgotten, as `remove_audit` deletes an audit."""
    return _remove(store, key)


def _remove(store: Store, key: str) -> int:
    rests_on = {
        **{entry.key: read_result(entry.path).artifacts for entry in store.entries("audit", "point", "placebo")},
        **{entry.key: read_forgetting(entry.path).artifacts for entry in store.entries("forgetting")},
    }
    mine = {key, *rests_on.pop(key, [])}
    # What stands in for another of one's own parts, such as its placebo, keeps nothing.
    shared = {name for other, parts in rests_on.items() if other not in mine for name in (other, *parts)}
    gone = [name for name in mine - shared if store.find(name) is not None]
    for name in gone:
        store.remove(name)
    return len(gone)


def remove_data_set(store: Store, key: str) -> int:
    """Deletes a saved data set and every audit of it, and every check whether a model trained on it has forgotten.

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
    for entry in store.entries("forgetting"):
        if read_forgetting(entry.path).config["experiment"]["data"].get("key") == key:
            remove_forgetting(store, entry.key)
    store.remove(key)
    return len(audits)
