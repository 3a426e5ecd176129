"""How many jobs run at once, whoever they belong to."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

from mia_core.jobs.places import place

HOLD = """
import sys, time
from pathlib import Path
from mia_core.jobs.places import place
with place(Path(sys.argv[1])):
    print("there", flush=True)
    time.sleep(60)
"""


def test_people_of_one_server_take_turns_and_a_dead_process_gives_its_place_back(tmp_path: Path) -> None:
    ada, grace = (tmp_path / "owners" / name for name in ("ada", "grace"))
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(ada)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "there\n"
    entered = threading.Event()

    def enter() -> None:
        with place(grace):
            entered.set()

    waiting = threading.Thread(target=enter)
    waiting.start()
    time.sleep(1.0)
    assert not entered.is_set()
    holder.kill()
    holder.wait()
    waiting.join(10)
    assert entered.is_set()
    # Another server on the same machine has places of its own.
    with place(tmp_path / "another"):
        pass
