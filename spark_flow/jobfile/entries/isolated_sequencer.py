"""The isolated sequencer, as entries of a flow: publish, wait_for, trigger."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StrictFloat, StrictInt, ValidationInfo
from pydantic import field_validator as validates

from spark_flow.errors import InvalidArgument, UnknownJob
from spark_flow.jobfile.model.base import PATTERN, FlowModel, Name, Text
from spark_flow.jobfile.model.fields import one_or_many, rule_text
from spark_flow.jobfile.model.problems import refuse, show
from spark_flow.sequence.isolated_sequencer import Consumer, Polling, consumer
from spark_flow.sequence.isolated_sequencer.keys import KEY_MAPS, parse_keys

Names = Annotated[tuple[Name, ...], BeforeValidator(one_or_many)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(one_or_many)]
Seconds = StrictInt | StrictFloat
State = Literal["succeeded", "reused", "skipped", "failed", "waiting", "fallback"]


def _keys(value: str) -> str:
    try:
        parse_keys(value)
    except InvalidArgument as error:
        raise refuse(show(value), KEY_MAPS) from error
    return value


class PublishModel(FlowModel):
    """A readiness marker after the data; a bare name is that of the dataset."""

    short = ("dataset", str)
    pattern: Literal["publish"] = Field("publish", alias=PATTERN)
    name: Name | None = None
    dataset: Name
    tables: Texts = ()
    state: Literal["ready", "skipped"] = "ready"
    reason: str = ""
    success_file: StrictBool = False
    on_failure: Literal["tell", "silent"] = "tell"

    def nodes(self) -> tuple[str, ...]:
        """The marker's name."""
        return (self.name or f"marker/{self.dataset}",)


class WaitForModel(FlowModel):
    """What another pipeline hands over; a bare name is that of the dataset."""

    short = ("dataset", str)
    pattern: Literal["wait_for"] = Field("wait_for", alias=PATTERN)
    name: Name | None = None
    dataset: Annotated[Names, Field(min_length=1)]
    keys_: Annotated[Text, AfterValidator(_keys)] = Field("same", alias="keys")
    table: Text | None = None
    also: Names = ()
    markers: Text | None = None
    roots: Texts = ()
    require: Annotated[Text, AfterValidator(rule_text)] = "all_succeeded"
    on_failed: Literal["fail", "wait", "ignore"] = "fail"
    on_skipped: Literal["skip", "fail", "wait", "ignore"] = "skip"
    on_partial: Literal["pass_on", "take", "refuse", "wait"] = "pass_on"
    timeout: Seconds = Polling.timeout
    interval: Seconds = Polling.interval
    backoff: Seconds = Polling.backoff
    max_interval: Seconds = Polling.max_interval
    jitter: Seconds = Polling.jitter

    @property
    def starts_chain(self) -> bool:
        """What is handed over is its frame."""
        return True

    @property
    def polling(self) -> Polling:
        """When to look."""
        names = ("timeout", "interval", "backoff", "max_interval", "jitter")
        return Polling(**{name: getattr(self, name) for name in names})

    def nodes(self) -> tuple[str, ...]:
        """The wait's name."""
        return (self.name or f"wait/{'-'.join(self.dataset)}",)

    @validates("timeout", "interval", "backoff", "max_interval", "jitter")
    @classmethod
    def _can_be_waited_by(cls, value: float, info: ValidationInfo) -> float:
        try:
            Polling(**{str(info.field_name): value}).check("polling")
        except InvalidArgument as error:
            raise refuse(error.found, error.expected) from error
        return value


class TriggerModel(FlowModel):
    """Another job, started for the same key; a bare path is that of its file."""

    short = ("job", str)
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

    @validates("job")
    @classmethod
    def _is_there(cls, value: str, info: ValidationInfo) -> str:
        """Looked up only while a file is loaded: before any work is done."""
        if info.context is None:
            return value
        config, pipeline = info.data.get("config"), info.data.get("pipeline") or ""
        how = {"overrides": info.data.get("overrides", ()), "beside": info.context.get("beside")}
        try:
            consumer(value, config=config, pipeline=pipeline, **how)
        except UnknownJob as error:
            raise refuse(f"{value!r}: {error.found}", error.expected, "Was it moved or renamed?") from error
        except InvalidArgument as error:
            raise refuse(f"override {error.found}", error.expected) from error
        return value
