"""Completeness outside the data itself: a table, and a notification of partial keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from spark_flow.core import fingerprint, notify
from spark_flow.core.names import check_name
from spark_flow.engine.lazy_frame import held
from spark_flow.engine.node import Node
from spark_flow.engine.writing import TableTarget
from spark_flow.errors import NotNotified
from spark_flow.fan_in.branches import FanIn
from spark_flow.ledger.event import now
from spark_flow.storage import delta_tables, files
from spark_flow.storage.sink_protocol import Intent, Written, app_id

if TYPE_CHECKING:
    from spark_flow.core.completeness import Completeness
    from spark_flow.engine.lazy_frame import LazyFrame
    from spark_flow.engine.outcome import Outcome
    from spark_flow.engine.run import Run

COLUMNS = pa.schema(
    [
        ("dataset", pa.string()),
        ("key", pa.string()),
        ("fan_in", pa.string()),
        ("expected", pa.int32()),
        ("arrived", pa.int32()),
        ("ratio", pa.float64()),
        ("missing", pa.list_(pa.string())),
        ("is_approximate", pa.bool_()),
        ("generation", pa.int64()),
        ("run", pa.string()),
        ("at", pa.timestamp("us", "UTC")),
    ]
)


def report_completeness(
    run: Run,
    dataset: str,
    of: FanIn | LazyFrame,
    *,
    table: str,
    notify_by: str = "",
    name: str = "completeness",
) -> Outcome:
    """Write how complete a dataset's key is to a table: one row per fan-in, replaced when the key is written again.

    The table's columns: ``dataset, key, fan_in: string``, ``expected, arrived: int``, ``ratio: double`` (0 to 1),
    ``missing: array<string>``, ``is_approximate: boolean``, ``generation: bigint``, ``run: string``,
    ``at: timestamp``. It is written without Spark; its history has the earlier rows.

    Args:
        run: The run.
        dataset: The dataset's name in the table.
        of: A fan-in, or a frame with one or more fan-ins upstream.
        table: The Delta table's path; the table is created if it does not exist.
        notify_by: The name of an environment variable with Apprise URLs (https://github.com/caronc/apprise), which are
            notified once about a partial key. If sending fails, the node ``<name>/notify`` fails but not the run, and
            a retry sends it again.
        name: The node's name.

    Raises:
        InvalidName: The dataset's name cannot be a folder name.
        ValueError: The frame has no fan-in upstream.
    """
    check_name("dataset", dataset)
    of = of if isinstance(of, FanIn) else held(of)
    parts = (of.completeness,) if isinstance(of, FanIn) else of.completeness
    if not parts:
        raise ValueError("the frame has no fan-in upstream, so its completeness is unknown")
    node = run.node(name)
    run.graph.uses(node, [(of.frame if isinstance(of, FanIn) else of).node])
    run.graph.writes[node] = {table: f"key = '{run.key}'"}

    def write(intent: Intent) -> Written:
        rows = [_row(run, dataset, part) for part in parts]
        fan_ins = ", ".join(f"'{part.node}'" for part in parts)
        predicate = f"dataset = '{dataset}' AND key = '{run.key}' AND fan_in IN ({fan_ins})"  # validated names
        version = delta_tables.replace_rows(table, pa.Table.from_pylist(rows, schema=COLUMNS), predicate, intent)
        reason = "; ".join(str(part) for part in parts)
        detail = {"path": files.absolute(table), "version": version}
        return Written(rows=len(rows), reason=f"{reason}; written at version {version}", detail=detail)

    digest = fingerprint.combine(dataset, files.absolute(table), [part.facts for part in parts])
    target = TableTarget(table, app_id(run.pipeline, node, run.key))
    outcome = run.once(Node(name=node, kind="sink", fingerprint=digest), write, target)
    partial = [part for part in parts if part.is_approximate]
    if notify_by and partial:
        _notify(run, f"{node}/notify", dataset, partial, notify_by)
    return outcome


def _row(run: Run, dataset: str, part: Completeness) -> dict[str, object]:
    facts = part.facts
    identity = {"dataset": dataset, "key": run.key, "fan_in": facts.pop("node")}
    return {**identity, **facts, "generation": run.generation, "run": run.run_id, "at": now()}


def _notify(run: Run, node: str, dataset: str, partial: list[Completeness], variable: str) -> None:
    def send(_: Intent) -> Written:
        title = f"{dataset} {run.key} is approximate"
        notify.send(variable, title, "\n".join(str(part) for part in partial))
        return Written(reason=f"notified the services in {variable}")

    digest = fingerprint.combine(dataset, variable, [part.facts for part in partial])
    if not notify.is_set(variable):
        run.skip(node, "marker", f"{variable} is not set", digest)
        return
    try:
        run.once(Node(name=node, kind="marker", fingerprint=digest, writes=False), send)
    except NotNotified:
        return  # recorded and shown as failed, and sent again by a retry; the data is written, so the run continues
