"""``trigger``: another job, started for the same key."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, ValidationInfo, field_validator

from spark_flow.errors import InvalidArgument, UnknownJob
from spark_flow.jobfile.model.base import PATTERN, FlowModel, Located, Name, Text, Texts
from spark_flow.jobfile.model.fields import imports, one_or_many
from spark_flow.jobfile.model.problems import refuse
from spark_flow.sequence import Consumer, consumer, trigger

if TYPE_CHECKING:
    from spark_flow.engine.lazy_frame import LazyFrame
    from spark_flow.engine.writing import Scope
    from spark_flow.jobfile.interpreter import Flow
    from spark_flow.jobfile.model.job import JobConfig
    from spark_flow.jobfile.model.wiring import Wiring

State = Literal["succeeded", "reused", "skipped", "failed", "waiting", "fallback"]


class TriggerModel(FlowModel):
    """Another job, started for the same key; a bare path is that of its file.

    Attributes:
        name: The node's name; by default ``trigger/`` and the pipeline's or the file's name.
        config: The YAML file of a job that is a script.
        pipeline: The pipeline that the job's file must have.
        overrides: Values of the file, as ``name=value``, besides the key.
        job: The job's script or YAML file.
        wait: Wait until it ends and report its outcome; else only start it.
        allow: The states of the job that count as success.
        launcher: The command that starts the job; by default ``spark-flow submit``.
    """

    short = ("job", str)
    kind = "trigger"
    pattern: Literal["trigger"] = Field("trigger", alias=PATTERN)
    name: Name | None = None
    config: Text | None = None
    pipeline: Name | None = None
    overrides: Texts = ()
    job: Text
    wait: StrictBool = True
    allow: Annotated[tuple[State, ...], BeforeValidator(one_or_many), Field(min_length=1)] = (
        "succeeded",
        "reused",
        "skipped",
    )
    launcher: Text | None = None

    def nodes(self) -> tuple[str, ...]:
        """The trigger's name."""
        return (self.name or f"trigger/{self.pipeline or self.job.rpartition('/')[2].removesuffix('.py')}",)

    def consumer(self, beside: Any) -> Consumer:
        """The job that it stands for.

        Raises:
            UnknownJob: It is not there, or is another one.
        """
        pipeline = self.pipeline or ""
        return consumer(self.job, config=self.config, pipeline=pipeline, overrides=self.overrides, beside=beside)

    def reports(self, other: Located) -> bool:
        """The job that it starts reads what was written, and what is recorded for it."""
        return bool(other.entry.written()) or other.entry.announces

    def wire(self, wiring: "Wiring", before: tuple[str, ...], prefix: str) -> tuple[str, ...]:  # noqa: ARG002
        """It is for what is written."""
        wiring.inputs[self.nodes()[0]] = tuple(wiring.written)
        return before

    def described(self, config: "JobConfig") -> Mapping[str, object]:  # noqa: ARG002
        """The job that it starts."""
        return {"job": self.job, "config": self.config, "wait": self.wait}

    @field_validator("job")
    @classmethod
    def _is_there(cls, value: str, info: ValidationInfo) -> str:
        """Looked up only while a file is loaded: before any work is done."""
        if not imports(info):
            return value
        config, pipeline = info.data.get("config"), info.data.get("pipeline") or ""
        how = {"overrides": info.data.get("overrides", ()), "beside": (info.context or {}).get("beside")}
        try:
            consumer(value, config=config, pipeline=pipeline, **how)
        except UnknownJob as error:
            raise refuse(f"{value!r}: {error.found}", error.expected, "Was it moved or renamed?") from error
        except InvalidArgument as error:
            raise refuse(f"override {error.found}", error.expected) from error
        return value

    def call(self, flow: "Flow", scope: "Scope", frame: "LazyFrame | None") -> "LazyFrame | None":
        """Start the job; what it touches is the footprint of its own file."""
        started, launcher = self.consumer(flow.beside), self.launcher or ""
        trigger(scope.run, started, wait=self.wait, allow=self.allow, name=self.name or "", launcher=launcher)
        return frame
