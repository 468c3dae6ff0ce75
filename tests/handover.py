"""What tests of the isolated sequencer share: providers without Spark, whose tables are real Delta tables."""

import datetime as dt

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import TableNotFoundError
from runs import new_run

import spark_flow as sf
from spark_flow.core.clock import Clock
from spark_flow.engine.node import Node
from spark_flow.ledger import MemoryLedger
from spark_flow.storage.markers import Marker, path_of, read, write
from spark_flow.storage.sink_protocol import Written

KEY = "2013-01-02"
AT_ONCE = sf.Polling(timeout=0)


class FakeClock:
    """Time that passes only in sleep; what is planned for a moment is done then."""

    def __init__(self):
        self.time, self.pauses, self.plans = 0.0, [], []

    def at(self, seconds, action):
        self.plans.append((seconds, action))

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.time += seconds
        for plan in [plan for plan in self.plans if plan[0] <= self.time]:
            self.plans.remove(plan)
            plan[1]()

    @property
    def clock(self):
        start = dt.datetime.now(dt.timezone.utc)
        return Clock(monotonic=lambda: self.time, sleep=self.sleep, now=lambda: start + dt.timedelta(seconds=self.time))


def put(path, key, number):
    """Replace a key's row in a real Delta table, without Spark; returns the version."""
    rows = pa.table({"date": [key], "n": pa.array([number], pa.int64())})
    try:
        DeltaTable(str(path))
    except TableNotFoundError:
        write_deltalake(str(path), rows, partition_by=["date"])
    else:
        write_deltalake(str(path), rows, mode="overwrite", predicate=f"date = '{key}'")
    return DeltaTable(str(path)).version()


def writes(run, node, path, number, completeness=()):
    """A write as a sink records it."""

    def action(_):
        detail = {"format": "delta", "path": str(path), "version": put(path, run.key, number), "column": "date"}
        parts = {"completeness": [part.as_recorded for part in completeness]} if completeness else {}
        return Written(rows=1, detail=detail | parts)

    return run.once(Node(name=node, kind="sink", fingerprint=str(number)), action)


def provide(root, number=1, *, key=KEY, dataset="hours", tables=("a", "b"), ledger=None, completeness=(), **options):
    """A provider's run: its tables, then the marker."""
    how = {name: options.pop(name) for name in ("rerun", "observers", "request_id") if name in options}
    ledger = ledger or MemoryLedger()
    with new_run(f"provider-{dataset}", key, state=str(root / "p"), ledger=ledger, **how) as run:
        for table in tables:
            writes(run, table, root / "out" / dataset / table, number, completeness)
        sf.publish(run, dataset, markers=str(root / "out" / "markers"), **options)
    return run


def mark(root, state="ready", *, dataset="hours", key=KEY, **more):
    """A marker by itself, as another tool might write it."""
    write(str(root / "out" / "markers"), Marker(dataset=dataset, key=key, state=state, **more))


def marker(root, dataset="hours", key=KEY):
    return read(path_of(str(root / "out" / "markers"), dataset, key))


def waiting(
    root, *, key=KEY, dataset="hours", ledger=None, pipeline="consumer", then=lambda _run, _found: None, **options
):
    """A consumer's run that waits and does something; returns the run and what was handed over."""
    how = {
        name: options.pop(name)
        for name in ("rerun", "plan", "spark", "observers", "command", "request_id")
        if name in options
    }
    options = {"polling": AT_ONCE, "markers": str(root / "out" / "markers"), **options}
    with new_run(pipeline, key, state=str(root / "c"), ledger=ledger or MemoryLedger(), **how) as run:
        found = sf.wait_for(run, dataset, **options)
        then(run, found)
    return run, found
