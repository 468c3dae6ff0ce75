"""The isolated sequencer (the book's section 2.2): pipelines of different owners, one after the other.

Loose, by data: the provider publishes a readiness marker after its tables (``publish``); the consumer waits for it and
reads them at the versions that it pins (``wait_for``). Neither knows the other's code, state or schedule. Tight, by
task: the provider starts the consumer (``trigger``).
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
