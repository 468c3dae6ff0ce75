"""OpenLineage (https://openlineage.io) events: what each run and node reads and writes, emitted while it runs."""

from spark_flow.lineage.observer import Lineage, emit_lineage, follow
from spark_flow.lineage.transport import Target

__all__ = ["Lineage", "Target", "emit_lineage", "follow"]
