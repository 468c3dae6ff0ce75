"""The event log of nodes, and the register of leases; each has a Delta and an in-memory implementation."""

from spark_flow.ledger.delta import DeltaLedger
from spark_flow.ledger.event import FORMAT, Event, Fence, Kind, Ledger, State
from spark_flow.ledger.memory import MemoryLedger
from spark_flow.ledger.register import DeltaRegister, MemoryRegister, Register

__all__ = [
    "FORMAT",
    "DeltaLedger",
    "DeltaRegister",
    "Event",
    "Fence",
    "Kind",
    "Ledger",
    "MemoryLedger",
    "MemoryRegister",
    "Register",
    "State",
]
