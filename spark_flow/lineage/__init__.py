"""Lineage by OpenLineage (https://openlineage.io): what each run and node read and wrote, told while it happens."""

from spark_flow.lineage.delivery import Target
from spark_flow.lineage.observer import Lineage, emit_lineage, follow

__all__ = ["Lineage", "Target", "emit_lineage", "follow"]
