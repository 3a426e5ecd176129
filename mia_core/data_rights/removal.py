"""Forgetting on our side: an audit or a data set is deleted with everything that nothing else rests on.

While something runs or waits, nothing is: it may be reading what would go, or find it before it is finished.
"""

from __future__ import annotations

from typing import Any

from mia_core.errors import ConfigError
from mia_core.jobs.queue import Queue
from mia_core.report.defending import read_defenses
from mia_core.report.forgetting import read_forgetting
from mia_core.report.results import AUDITS, read_result
from mia_core.report.studies import read_study_table
from mia_core.storage.store import Store


def check_nothing_runs(store: Store, why: str, then: str) -> None:
    """Refuses where something runs or waits in a home folder.

    Args:
        why: it must not.
        then: what may be done when it has ended.
    Raises:
        ConfigError: it does.
    """
    if Queue(store.home).active():
        raise ConfigError(
            f"something is running or waiting in this home folder, and {why}; wait until it has ended or cancel it (page "
            f"Running), then {then}"
        )


def _check_unneeded(store: Store) -> None:
    check_nothing_runs(store, "may need what is deleted", "delete")


def remove_audit(store: Store, key: str) -> int:
    """Deletes a finished audit with its data, models and observations, except those that other audits share.

    Returns:
        how many artifacts were deleted.
    Raises:
        ConfigError: something runs or waits.
    """
    _check_unneeded(store)
    return _remove(store, key)


def remove_forgetting(store: Store, key: str) -> int:
    """Deletes a check whether a model has forgotten, as `remove_audit` deletes an audit."""
    _check_unneeded(store)
    return _remove(store, key)


def remove_defenses(store: Store, key: str) -> int:
    """Deletes a comparison of defences with the audits that were run for it alone, and what only these rest on; as
    `remove_audit` otherwise."""
    _check_unneeded(store)
    return _remove_defenses(store, key)


def remove_data_set(store: Store, key: str) -> int:
    """Deletes a saved data set with every audit of it, comparison of defences and check of forgetting, and with what audits
    that were never finished have left: which data that was made from cannot be told from it.

    Returns:
        how many audits were deleted with it.
    Raises:
        ConfigError: something runs or waits.
    """
    _check_unneeded(store)
    folder = store.find(key)
    if folder is None:
        return 0
    named = [entry for entry in store.entries("audit", "point") if _names(read_result(entry.path).config, {key})]
    # What was tried on an audit afterwards names the data that the audit kept.
    keys = {key, *(read_result(entry.path).data["key"] for entry in named)}
    for entry in store.entries("defenses"):
        tried = read_defenses(entry.path)
        if _names(tried.config["experiment"], keys):
            _remove_defenses(store, entry.key)
    for entry in store.entries("forgetting"):
        checked = read_forgetting(entry.path)
        if _names(checked.config["experiment"], keys):
            _remove(store, entry.key)
    for entry in store.entries("audit", "point"):
        if _names(read_result(entry.path).config, keys):
            _remove(store, entry.key)
    store.remove(key)
    _remove_unfinished(store)
    return len(named)


def _remove_unfinished(store: Store) -> None:
    """Deletes kept copies of data, splits and targets that no result rests on: no page lists them, and they would stay."""
    needed = set[str]()
    for result in (read_result(entry.path) for entry in store.entries(*AUDITS)):
        needed.update((result.data["key"], *result.artifacts))
    for check in (read_forgetting(entry.path) for entry in store.entries("forgetting")):
        needed.update((check.data["key"], *check.artifacts))
    for entry in store.entries("interactions", "split", "model"):
        if entry.keep and entry.key not in needed:
            store.remove(entry.key)


def _remove_defenses(store: Store, key: str) -> int:
    folder = store.find(key)
    if folder is None:
        return 0
    points = {entry.key for entry in store.entries("point")}
    mine = {audit for tried in read_defenses(folder).tried for audit in tried.audits} & points
    wanted: set[str] = set()
    for entry in store.entries("defenses"):
        if entry.key != key:
            wanted |= {audit for tried in read_defenses(entry.path).tried for audit in tried.audits}
    for entry in store.entries("study"):
        run = set(read_study_table(entry.path, "figures")["audit"])
        if run <= mine - wanted:
            # The study that ran them; without them nothing is left of it.
            store.remove(entry.key)
        else:
            wanted |= run
    store.remove(key)
    return 1 + sum(_remove(store, audit) for audit in sorted(mine - wanted))


def _remove(store: Store, key: str) -> int:
    rests_on = {
        **{entry.key: read_result(entry.path).artifacts for entry in store.entries(*AUDITS)},
        **{entry.key: read_forgetting(entry.path).artifacts for entry in store.entries("forgetting")},
    }
    mine = {key, *rests_on.pop(key, [])}
    # What stands in for another of one's own parts, such as its placebo, keeps nothing.
    shared = {name for other, parts in rests_on.items() if other not in mine for name in (other, *parts)}
    gone = [name for name in mine - shared if store.holds(name)]
    for name in gone:
        store.remove(name)
    return len(gone)


def _names(config: dict[str, Any], keys: set[str]) -> bool:
    return config["data"].get("key") in keys
