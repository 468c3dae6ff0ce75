"""What a command line requests of a job file, and whether that file and those that it triggers are valid."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from spark_flow import jobfile as files
from spark_flow.core.secrets import Redactor, redact
from spark_flow.errors import InvalidArgument
from spark_flow.jobfile.model.fields import texts
from spark_flow.ledger import DeltaLedger
from spark_flow.storage.stores import variables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spark_flow.engine.outcome import Observer

_LOOKED_AT = 20  # runs that are searched for one that recorded its file


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """What a command line requests of a job file, for any of its keys.

    Attributes:
        job: The job's Python file; ``module:function`` is looked up in its folder first.
        config: The YAML file.
        overrides: ``name=value`` pairs, with ``key=`` if there is one key.
        rerun: Recompute everything.
        start: Run this node and everything after it again.
        only: Run only these nodes, or branches.
        until: End after this node.
        observers: Called as nodes of each run proceed.
        secrets: Hides secrets in everything that is recorded or shown; it learns them when the file is read.
    """

    job: Path
    config: Path
    overrides: tuple[str, ...] = ()
    rerun: bool = False
    start: str = ""
    only: tuple[str, ...] = ()
    until: str = ""
    observers: tuple[Observer, ...] = ()
    secrets: Redactor = field(default_factory=Redactor, compare=False, repr=False)

    def of(self, key: str) -> JobRequest:
        """The same for one key."""
        return dataclasses.replace(self, overrides=(*self.overrides, f"key={key}"))

    @property
    def key(self) -> str:
        """The key among the overrides; empty if there is none."""
        return next((word.partition("=")[2] for word in reversed(self.overrides) if word.startswith("key=")), "")

    def load(self, *, any_key: bool = False) -> files.JobConfig:
        """The file, checked, with the files of the jobs that it triggers.

        The object store that it gives to Spark is from then on that of all engines in this process.

        Args:
            any_key: See ``files.load``.

        Raises:
            ConfigError: With all that is wrong.
            InvalidArgument: Jobs start each other in a circle.
        """
        named = dict(override.partition("=")[::2] for override in self.overrides)
        self.secrets.learn_from(named)
        config = files.load(self.config, self.overrides, beside=self.job.parent, any_key=any_key)
        self.secrets.learn(config.secrets)
        for name, value in variables(texts(config.spark)).items():
            os.environ[name] = value  # above the environment, as in Spark
        _check_triggers(config, self.job, any_key=any_key)
        return config

    @property
    def command(self) -> dict[str, object]:
        """How to run this again, for ``backfill``.

        Where an override holds a secret there is no command that could be repeated: its name is recorded alone. One
        that is given as ``${oc.env:NAME}`` is recorded as it is.
        """
        place = {"job": str(self.job), "config": str(self.config.absolute()), "cwd": str(Path.cwd())}
        held = [one.partition("=")[0] for one in self.overrides if redact(one) != one or self.secrets.knows(one)]
        return {**place, "withheld": held} if held else {**place, "overrides": list(self.overrides)}


def other_file(request: JobRequest, config: files.JobConfig) -> str:
    """A warning if the pipeline was last run from another file: both files share the recorded results."""
    try:
        begun = DeltaLedger(config.state, create=False).runs(config.pipeline, "started", last=_LOOKED_AT)
    except Exception:
        return ""  # the run says what is wrong with its ledger
    known = [(event.key, event.detail.get("command", {}).get("config")) for event in begun]
    key, last = next(((key, path) for key, path in known if path), ("", ""))
    here = str(request.config.absolute())
    if not last or os.path.realpath(last) == os.path.realpath(here):
        return ""
    return (
        f"warning: pipeline {config.pipeline!r} was last run from {last} (key {key}); this is {here}. Both share "
        "what is recorded in the state folder: if they are two pipelines, give one of them another name (pipeline:)."
    )


def _check_triggers(
    config: files.JobConfig, job: Path, above: Sequence[tuple[str, str]] = (), *, any_key: bool = False
) -> None:
    """Read the files of the jobs that will be triggered, to report their problems before any work is done.

    Raises:
        ConfigError: Of a consumer's file.
        InvalidArgument: Jobs start each other in a circle.
    """
    chain = [*above, (str(job), config.pipeline)]
    for entry in files.walk(config.flow):
        to_start = entry.consumer(job.parent)
        if to_start is None:
            continue
        place = (to_start.job, to_start.pipeline)
        if place in chain:
            circle = " -> ".join(name for _, name in [*chain[chain.index(place) :], place])
            raise InvalidArgument(entry.nodes()[0], f"a circle: {circle}", "jobs that do not start each other")
        if to_start.pipeline:  # a stream's file, or another tool's, has none
            overrides = [f"key={config.key}", *to_start.overrides]
            loaded = files.load(to_start.config, overrides, beside=Path(to_start.job).parent, any_key=any_key)
            _check_triggers(loaded, Path(to_start.job), chain, any_key=any_key)
