"""Sequence patterns (the book's section 2): local sequencer, transaction, isolated sequencer."""

from spark_flow.sequence.call import call
from spark_flow.sequence.expect import Rule, expect, holds, row_count, unique
from spark_flow.sequence.expose import expose
from spark_flow.sequence.isolated_sequencer import (
    Consumer,
    Handover,
    Polling,
    announcing,
    consumer,
    hours_of_day,
    last_days,
    publish,
    same_key,
    trigger,
    wait_for,
)
from spark_flow.sequence.local_sequencer import Step, local_sequencer, step
from spark_flow.sequence.transaction import Transaction, read_transaction, transaction

__all__ = [
    "Consumer",
    "Handover",
    "Polling",
    "Rule",
    "Step",
    "Transaction",
    "announcing",
    "call",
    "consumer",
    "expect",
    "expose",
    "holds",
    "hours_of_day",
    "last_days",
    "local_sequencer",
    "publish",
    "read_transaction",
    "row_count",
    "same_key",
    "step",
    "transaction",
    "trigger",
    "unique",
    "wait_for",
]
