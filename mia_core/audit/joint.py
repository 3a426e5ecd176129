"""One of several processes that train one model together: `torchrun … -m mia_core.audit.joint ORDER.json`."""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from mia_core.audit.errands import Errand, do
from mia_core.errors import ClusterError, MemberScopeError, as_plain, what_and_where
from mia_core.experiment import Runtime
from mia_core.models.llm.together import PartDone, Team, join
from mia_core.storage.store import Store

LOOK_SECONDS = 2.0


class JointStore(Store):
    """The store of processes that train together: what the first one writes is there for all."""

    def __init__(self, home: Path, team: Team) -> None:
        super().__init__(home)
        self.team = team

    def build(
        self,
        key: str,
        kind: str,
        write: Callable[[Path], None],
        *,
        name: str = "",
        keep: bool = False,
        created: str = "",
    ) -> Path:
        """As in every store; all take part in the writing, and the first one's is kept."""
        if self.team.first:
            begun = False

            def together(folder: Path) -> None:
                nonlocal begun
                begun = True
                self.team.say(True)
                write(folder)

            folder = super().build(key, kind, together, name=name, keep=keep, created=created)
            if not begun:
                self.team.say(False)
        else:
            if self.team.hear():
                with tempfile.TemporaryDirectory() as aside, suppress(PartDone):
                    write(Path(aside))
            folder = self._folder(key)
        self.team.wait()
        return folder


def take_part(order: Path) -> int:
    """Does this process's part of an order; returns the exit code."""
    document = json.loads(order.read_text(encoding="utf-8"))
    threading.Thread(target=_end_with, args=(document["process"],), daemon=True).start()
    runtime = Runtime.model_validate(document["runtime"])
    team = join(runtime.sharded, runtime.device)
    errand = Errand(document["experiment"], document["interactions"], runtime, document["model"])
    try:
        do(errand, JointStore(Path(document["home"]), team))
    except Exception as error:
        if not isinstance(error, MemberScopeError):
            error = ClusterError(
                f"processes that trained one model together ran into a fault of ours ({what_and_where(error)}); what was "
                "finished is kept: set processes = 1 to train without it"
            )
        told = order.with_name(f"error {team.rank}.json")
        told.write_text(json.dumps(as_plain(error)), encoding="utf-8")
        return error.exit_code
    team.leave()
    return 0


def _end_with(process: int) -> None:
    """Ends this process when the one that gave the order is gone."""
    while psutil.pid_exists(process):
        time.sleep(LOOK_SECONDS)
    psutil.Process().kill()


if __name__ == "__main__":
    sys.exit(take_part(Path(sys.argv[1])))
