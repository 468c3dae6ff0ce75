"""Lineage by OpenLineage (https://openlineage.io): what each run and node read and wrote, told while it happens."""

from spark_flow.lineage.observer import Lineage, emit_lineage, follow
from spark_flow.lineage.transport import Target

__all__ = ["Lineage", "Target", "emit_lineage", "follow"]
