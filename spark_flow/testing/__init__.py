"""Tools for testing your own flows: pytest fixtures (``plugin``), crash injection, the in-memory ledger."""

from spark_flow.ledger.memory import MemoryLedger
from spark_flow.testing.crash import POINTS, crash_at

__all__ = ["POINTS", "MemoryLedger", "crash_at"]
