"""The append-only record of what happened to nodes: one port, two adapters."""

from spark_flow.ledger.delta import DeltaLedger
from spark_flow.ledger.memory import MemoryLedger
from spark_flow.ledger.port import FORMAT, Event, Kind, Ledger, State

__all__ = ["FORMAT", "DeltaLedger", "Event", "Kind", "Ledger", "MemoryLedger", "State"]
