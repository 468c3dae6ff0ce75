"""What is recorded, each a port with two adapters: what happened to nodes, and who may run now."""

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
