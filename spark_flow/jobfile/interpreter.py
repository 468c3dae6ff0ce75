"""A job file's flow on its way through a run: each entry calls its pattern."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spark_flow import jobfile as files
from spark_flow.engine.reading import read
from spark_flow.errors import EndedAfter, NotRecorded

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from spark_flow.engine.lazy_frame import LazyFrame
    from spark_flow.engine.run import Run
    from spark_flow.engine.writing import Scope
    from spark_flow.jobfile.model.job import ParameterModel
    from spark_flow.storage.sources import Source


class Flow:
    """What entries of a job file use: its sources and parameters by name, and ``module:function`` references.

    Attributes:
        run: The run.
        beside: The folder of the job, where modules are looked for first.
        tables: Further tables of a hand-over, by name.
    """

    def __init__(self, config: files.JobConfig, run: Run, beside: Path | None, until: str = "") -> None:
        self.run = run
        self.beside = beside
        self.until = until
        self.tables: dict[str, LazyFrame] = {}
        self._config = config

    @property
    def markers(self) -> str:
        """The folder of markers."""
        return self._config.markers

    @property
    def parameters(self) -> Mapping[str, ParameterModel]:
        """The parameters of the file, by name."""
        return self._config.parameters

    @property
    def frames(self) -> Collection[str]:
        """The names that ``frame`` knows: sources, and tables of a hand-over."""
        return {*self._config.sources, *self.tables}

    def source(self, name: str, branches: Sequence[str] = ()) -> Source:
        """A source of the file, with its own branches or those of a fan-in."""
        model = self._config.sources[name]
        schema = self.resolve(model.schema_) if model.schema_ and files.is_reference(model.schema_) else model.schema_
        return model.source(schema, branches)

    def frame(self, name: str) -> LazyFrame:
        """The frame of a source, or of a table that was handed over."""
        return self.tables[name] if name in self.tables else read(self.run, name, self.source(name))

    def resolve(self, reference: str) -> Any:
        """What ``module:name`` stands for."""
        return files.resolve(reference, beside=self.beside)

    def walk(self, entries: Sequence[files.FlowModel], scope: Scope, frame: LazyFrame | None) -> LazyFrame | None:
        """Call the pattern of each entry, with the frame that the one before it returned."""
        for entry in entries:
            frame = entry.call(self, scope, frame)
        return frame


def execute(config: files.JobConfig, run: Run, *, beside: Path | None = None, until: str = "") -> None:
    """Walk a file's flow: lazy nodes are declared, writes are done, once.

    Args:
        config: The file.
        run: The run.
        beside: The folder of the job, where modules are looked for first.
        until: A node; what comes after its entry is left for a later attempt of the same generation, and of a choice
            its routes as well.

    Raises:
        EndedAfter: There is something after the entry of ``until``.
        SparkFlowError: As the entries' patterns do.
    """
    flow = Flow(config, run, beside, until)
    try:
        walked = config.flow[: files.until(config, until)] if until else config.flow
        frame = flow.walk(walked, run, None)
        if until and frame is not None and frame.node == until:
            _ = frame.frame  # a checkpoint, which is written when it is first needed
    except (NotRecorded, EndedAfter):
        raise  # a backfill that is refused, and what is done later, change nothing for those who wait for the key
    except Exception as error:
        # Nobody waits for what a route publishes that was not taken, or whose choice was not made.
        not_taken = [route for entry in files.walk(config.flow) for route in entry.not_taken(run)]
        for entry in files.walk(config.flow, not_taken):
            entry.failed(flow, error)
        raise
    if len(walked) < len(config.flow):
        raise EndedAfter(until)
