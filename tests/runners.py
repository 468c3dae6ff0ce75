"""What tests of the runners share: pipelines without Spark, whose runs say when they were at work."""

import threading
import time

from spark_flow.engine.node import Node
from spark_flow.orchestration.pipeline import pipeline
from spark_flow.storage.sink_protocol import Written


class Work:
    """Counts who is at work, and does as it is told for a key: fail, wait, or a function of the run."""

    def __init__(self, *, takes=0.0):
        self.at_once, self.most, self.done, self.takes = 0, 0, [], takes
        self.told = {}
        self.broken = set()
        self.lock = threading.Lock()

    def __call__(self, run):
        if run.plan:
            return
        with self.lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        try:
            run.once(Node(name="load", kind="sink"), lambda _: self._action(run))
        finally:
            with self.lock:
                self.at_once -= 1

    def _action(self, run):
        time.sleep(self.takes)
        if run.key in self.broken:
            raise ValueError(f"no data for {run.key}")
        if run.key in self.told:
            self.told[run.key](run)
        with self.lock:
            self.done.append(run.key)
        return Written(rows=1)


def of(work, ledger, tmp_path, **more):
    return pipeline("p", work, state=str(tmp_path / "state"), ledger=ledger, **more)


def states(summary):
    return [result.state for result in summary.results]
