"""``parallel_split``: one frame to several sinks."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictInt, ValidationInfo, field_validator

from spark_flow.fan_out import parallel_split
from spark_flow.fan_out.parallel_split import Mode, Share
from spark_flow.jobfile.entries.step import StepModel
from spark_flow.jobfile.model.base import PATTERN, Name, Options, Text, frame_of
from spark_flow.jobfile.model.fields import texts
from spark_flow.jobfile.model.limits import LimitedModel
from spark_flow.jobfile.model.problems import refuse
from spark_flow.jobfile.model.sink import SinkModel

if TYPE_CHECKING:
    from spark_flow.engine.lazy_frame import LazyFrame
    from spark_flow.engine.writing import Scope
    from spark_flow.jobfile.interpreter import Flow
    from spark_flow.jobfile.model.base import Touched
    from spark_flow.jobfile.model.job import JobConfig
    from spark_flow.jobfile.model.wiring import Wiring


def _unfold_step(value: Any) -> Any:
    return {"run": value} if isinstance(value, str) else value


class SplitSinkModel(SinkModel):
    """A branch of a split: a sink, and what is done with the shared frame before.

    Attributes:
        step: A function or a ``step`` that runs on the shared frame first.
        spark: Settings of the branch's own application, with ``mode: intermediary``.
    """

    step: Annotated[StepModel | None, BeforeValidator(_unfold_step)] = None
    spark: Options = Field(default_factory=dict)

    @field_validator("step")
    @classmethod
    def _the_split_limits_it(cls, value: StepModel | None) -> StepModel | None:
        if value is not None and value.limited_by:
            raise refuse(f"{value.limited_by} of a branch's step", f"{value.limited_by} of the split, for each branch")
        return value


class ParallelSplitModel(LimitedModel):
    """One frame to several sinks; a mapping without ``sinks`` is that of the sinks.

    Attributes:
        name: The node of the shared frame.
        sinks: The branches by name, each a sink.
        share: How the shared frame is held: cached by a storage level of Spark, or ``boundary`` for a checkpoint.
        loading_time: Add a column of this name with the time at which the generation started.
        max_in_flight: How many branches run at once; by default what the session can run at once.
        mode: ``threads`` of one application, or ``intermediary``: a checkpoint, and one application per branch.
    """

    bare = "sinks"
    named = {"sinks": SplitSinkModel}  # noqa: RUF012 - declared as a class variable
    in_transaction = True
    pattern: Literal["parallel_split"] = Field("parallel_split", alias=PATTERN)
    name: Name = "split"
    sinks: dict[Name, SplitSinkModel]
    share: Share = "MEMORY_AND_DISK"
    loading_time: Text | None = None
    max_in_flight: Annotated[StrictInt, Field(ge=1)] | None = None
    mode: Mode = Field("threads", validate_default=True)

    def nodes(self) -> tuple[str, ...]:
        """The shared frame's name, the sinks', and those of their steps."""
        steps = [f"{name}/{sink.step.name}" for name, sink in self.sinks.items() if sink.step]
        return (self.name, *self.sinks, *steps)

    def reads(self) -> tuple[str, ...]:
        """Sources that the steps take."""
        return tuple(name for sink in self.sinks.values() if sink.step for name in sink.step.reads())

    @field_validator("sinks")
    @classmethod
    def _at_least_one(cls, value: dict[str, SplitSinkModel]) -> dict[str, SplitSinkModel]:
        if not value:
            raise refuse("no sink", "at least one", "For example lake: {format: delta, path: out/lake}.")
        return value

    @field_validator("mode")
    @classmethod
    def _resources_need_applications(cls, value: str, info: ValidationInfo) -> str:
        with_settings = [name for name, sink in info.data.get("sinks", {}).items() if sink.spark]
        if with_settings and value != "intermediary":
            fix = "In threads all branches share the settings of the job."
            raise refuse(f"mode {value} with spark settings of {with_settings[0]}", "mode: intermediary", fix)
        return value

    def steps(self) -> tuple[StepModel, ...]:
        """Those of the branches."""
        return tuple(sink.step for sink in self.sinks.values() if sink.step)

    def written(self) -> Mapping[tuple[str, ...], SinkModel]:
        """The sinks of all branches."""
        return {("sinks", name): sink for name, sink in self.sinks.items()}

    def wire(self, wiring: "Wiring", before: tuple[str, ...], prefix: str) -> tuple[str, ...]:
        """The sinks write the shared frame, or what their step makes of it."""
        shared = f"{prefix}{self.name}"
        wiring.inputs[shared] = before
        for name, sink in self.sinks.items():
            above = shared
            if sink.step is not None:
                above = f"{prefix}{name}/{sink.step.name}"
                wiring.inputs[above] = (shared, *sink.step.read_nodes(wiring.sources))
            wiring.inputs[f"{prefix}{name}"] = (above,)
            wiring.written.append(f"{prefix}{name}")
        return before

    def call(self, flow: "Flow", scope: "Scope", frame: "LazyFrame | None") -> "LazyFrame":
        """Write the branches."""
        shared = frame_of(frame)
        branches = {
            name: (model.step.step(flow, shared), model.sink()) if model.step else model.sink()
            for name, model in self.sinks.items()
        }
        parallel_split(
            scope,
            shared,
            branches,
            name=self.name,
            share=self.share,
            loading_time=self.loading_time or "",
            max_in_flight=self.max_in_flight,
            mode=self.mode,
            spark={name: texts(model.spark) for name, model in self.sinks.items()},
        )
        return shared

    def footprint(self, config: "JobConfig", above: str) -> "Touched":
        """The paths of all sinks, and of the sources that the steps read."""
        for name, model in self.sinks.items():
            yield from model.touches(above + name, config.key)
            if model.step is not None:
                yield from model.step.footprint(config, above)
