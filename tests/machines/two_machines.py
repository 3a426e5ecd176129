"""A cluster of two machines, both of them here: who needs it starts it."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil

from mia_core.machines import cluster as machines

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def two_machines() -> Iterator[Any]:
    """A cluster of two machines of one core each, with a token; this process is on the first."""
    wanted = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "f" * 64, "RAY_USAGE_STATS_ENABLED": "0"}
    wanted |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    small = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    with patch.dict(os.environ, wanted):
        import ray
        from ray.cluster_utils import Cluster

        # A machine that is gone is given up after five seconds instead of fifteen.
        head = {**small, "include_dashboard": False, "_system_config": {"health_check_period_ms": 1_000}}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            cluster.second = cluster.add_node(**small)
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


def second_node(cluster: Any) -> Any:
    """The machine that may be taken away; a new one where it was."""
    if cluster.second is None:
        cluster.second = cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
        cluster.wait_for_nodes()
    return cluster.second


def folders_left() -> list[Path]:
    """What pieces of work keep on the disk of their machine while they run."""
    return list(Path(tempfile.gettempdir()).glob(f"{machines.FOLDER}*"))


def at_work(address: str) -> list[psutil.Process]:
    """The processes that do a piece of work for somebody on the machines of a cluster."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            parent = process.parent()
            named = " ".join(process.cmdline()).startswith("ray::memberscope")
            if named and parent is not None and any(address in part for part in parent.cmdline()):
                found.append(process)
    return found


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    """Until something is so."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.2)
