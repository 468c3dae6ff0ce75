"""Sequence patterns (the book's section 2): local and isolated sequencer, transaction boundary."""

from spark_flow.sequence.isolated_sequencer import (
    Handover,
    Polling,
    announcing,
    hours_of_day,
    last_days,
    publish,
    same_key,
    wait_for,
)
from spark_flow.sequence.local_sequencer import Step, local_sequencer, step
from spark_flow.sequence.transaction import Transaction, read_transaction, transaction

__all__ = [
    "Handover",
    "Polling",
    "Step",
    "Transaction",
    "announcing",
    "hours_of_day",
    "last_days",
    "local_sequencer",
    "publish",
    "read_transaction",
    "same_key",
    "step",
    "transaction",
    "wait_for",
]
