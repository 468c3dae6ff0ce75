"""The isolated sequencer (the book's section 2.2): one pipeline after another, with different owners.

Loosely coupled, by data: after its tables the provider publishes a readiness marker (``publish``). The consumer waits
for the marker and reads the tables at the versions that it pins (``wait_for``). Neither knows the other's code, state
or schedule. Tightly coupled, by task: the provider starts the consumer (``trigger``).
"""

from spark_flow.sequence.isolated_sequencer.consumer import Handover, wait_for
from spark_flow.sequence.isolated_sequencer.keys import hours_of_day, last_days, same_key
from spark_flow.sequence.isolated_sequencer.polling import Polling
from spark_flow.sequence.isolated_sequencer.provider import announce, announcing, publish
from spark_flow.sequence.isolated_sequencer.trigger import Consumer, consumer, trigger

__all__ = [
    "Consumer",
    "Handover",
    "Polling",
    "announce",
    "announcing",
    "consumer",
    "hours_of_day",
    "last_days",
    "publish",
    "same_key",
    "trigger",
    "wait_for",
]
