"""Work in processes of its own that lasts longer than anybody waits: `python slow_work.py HOME`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from mia_core.experiment import Runtime
from mia_core.machines.tasks import map_tasks
from mia_core.storage.store import Store


def work(item: int, store: Store) -> None:
    (store.home / f"worker {item}").write_text(str(os.getpid()))
    time.sleep(120)


if __name__ == "__main__":
    list(map_tasks(work, [1, 2], Store(Path(sys.argv[1])), Runtime(), workers=2))
