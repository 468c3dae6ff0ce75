"""Sequence patterns (the book's section 2): local sequencer, transaction boundary."""

from spark_flow.sequence.local_sequencer import Step, local_sequencer, step
from spark_flow.sequence.transaction import Transaction, read_transaction, transaction

__all__ = ["Step", "Transaction", "local_sequencer", "read_transaction", "step", "transaction"]
