"""Look up the revisions that the targets of recorded writes remember, without Spark."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from deltalake.exceptions import DeltaError

from spark_flow.errors import SparkFlowError
from spark_flow.storage import delta_tables, key_folder
from spark_flow.storage.sink_protocol import app_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from deltalake import DeltaTable

    Recorded = tuple[int, Mapping[str, Any]]


def newer(pipeline: str, key: str, recorded: Mapping[str, Recorded]) -> Iterator[tuple[str, int]]:
    """Find the nodes whose target remembers a higher revision than the ledger, which proves that the ledger is old.

    Args:
        pipeline: The pipeline that wrote.
        key: The unit of work.
        recorded: By node, the highest revision in the ledger, and the detail of the last write.

    Yields:
        The node, and the revision that its target remembers. A target that cannot be read is skipped.
    """
    opened = functools.cache(delta_tables.open_table)  # many nodes may write to one table
    for node, (known, detail) in recorded.items():
        try:
            there = _remembered(pipeline, app_id(pipeline, node, key), detail, opened)
        except (OSError, SparkFlowError, ValueError, KeyError, TypeError, DeltaError):
            continue  # the sink reports the problem when it is used
        if there > known:
            yield node, there


def _remembered(pipeline: str, id_: str, detail: Mapping[str, Any], opened: Callable[[str], DeltaTable | None]) -> int:
    if "marker" in detail:
        return _of_marker(pipeline, str(detail["marker"]["path"]))
    if "version" in detail:  # a Delta table
        table = opened(str(detail["path"]))
        return (table.transaction_version(id_) or 0) if table is not None else 0
    if "revision" in detail:  # a key's folder of files
        manifest = key_folder.read_manifest(str(detail["path"]))
        return int(manifest["revision"]) if manifest.get("app_id") == id_ else 0
    return 0


def _of_marker(pipeline: str, path: str) -> int:
    from spark_flow.storage import markers

    return markers.revision(path, of=pipeline)
