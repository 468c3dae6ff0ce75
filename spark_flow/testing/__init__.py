"""Tools for testing your own flows: pytest fixtures (``plugin``), crashes (kills and images), the in-memory ledger."""

from spark_flow.ledger.memory import MemoryLedger
from spark_flow.testing.crash import POINTS, CrashImages, crash_at

__all__ = ["POINTS", "CrashImages", "MemoryLedger", "crash_at"]
