"""``spark-flow adopt``: find a job's targets in its file, and what they hold of each key."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spark_flow.errors import InvalidArgument
from spark_flow.jobfile.model.base import located
from spark_flow.jobfile.model.fields import texts
from spark_flow.jobfile.request import JobRequest
from spark_flow.ledger import DeltaLedger
from spark_flow.operations import adopt
from spark_flow.orchestration.leases import Leases, hold
from spark_flow.spark.session import session
from spark_flow.storage import files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Adoption:
    """Keys to adopt.

    Attributes:
        pipeline: The pipeline.
        state: The state folder.
        leases: The folder of leases.
        keys: What the targets hold, by key.
        commands: How each key is run, by key.
    """

    pipeline: str
    state: str
    leases: str
    keys: Mapping[str, Sequence[adopt.Found]]
    commands: Mapping[str, Mapping[str, object]]


def prepare(job: Path, words: Sequence[str]) -> Adoption:
    """Find what a job's targets hold of each key, and check that each can be adopted.

    Args:
        job: The job's YAML file.
        words: Keys and ranges of the runner's calendar, and ``name=value`` pairs.

    Raises:
        CannotAdopt: One of them cannot.
        ConfigError: The file is wrong.
        InvalidArgument: There is no key, or one is not in the calendar.
    """
    overrides = tuple(word for word in words if "=" in word)
    wanted = [key for word in words if "=" not in word for key in word.split(",") if key.strip()]
    if not wanted:
        raise InvalidArgument("KEYS", "none", "keys and ranges, as 2013-01-01..2013-01-31")
    request = JobRequest(job=job.resolve(), config=job, overrides=overrides)
    any_key = request.of(wanted[0].partition("..")[0]).load(any_key=True)
    keys = any_key.runner.keys_of.keys(",".join(wanted)) if any(".." in word for word in wanted) else tuple(wanted)
    spark = functools.cache(lambda: session("spark_flow adopt", config=texts(any_key.spark)))
    ledger = DeltaLedger(any_key.state, create=False)
    found, commands = {}, {}
    for key in dict.fromkeys(keys):  # all of them before Spark starts
        adopt.check_new(any_key.pipeline, key, ledger)
    for key in dict.fromkeys(keys):
        one = request.of(key)
        found[key] = [
            _in_a_route(looked) if any("/" in route for route in each.around) else looked
            for each in located(one.load().flow)
            for node, sink in each.sinks.items()
            for looked in [adopt.look(node, sink.sink(), key, spark)]
        ]
        adopt.check_there(any_key.pipeline, key, found[key])
        commands[key] = one.command
    leases = any_key.runner.leases or files.join(any_key.state, "leases")
    return Adoption(any_key.pipeline, any_key.state, leases, found, commands)


def _in_a_route(found: adopt.Found) -> adopt.Found:
    """A key's rows are in the targets of one route; which one, nobody knows any more."""
    return dataclasses.replace(found, there=found.there or None)


def record(adopted: Adoption) -> None:
    """Record each key as done, under its lease.

    Raises:
        Busy: A process runs the key.
        CannotAdopt: It has been run meanwhile.
    """
    ledger = DeltaLedger(adopted.state)
    pool = Leases(adopted.leases).of_pipeline(adopted.pipeline)
    for key, found in adopted.keys.items():
        with hold(pool, adopted.pipeline, key, busy="exit") as lease:
            adopt.adopt(ledger, adopted.pipeline, key, found, adopted.commands[key], lease)
