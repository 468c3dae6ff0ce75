"""The fan-out patterns, as entries of a flow."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Protocol, TypeVar

from pydantic import BeforeValidator, Field, StrictInt, ValidationInfo, field_validator, model_validator
from typing_extensions import Self

from spark_flow.errors import InvalidCondition
from spark_flow.fan_out.conditions import Condition, by_date, by_schema
from spark_flow.jobfile.entries.sequence import SinkModel, StepModel
from spark_flow.jobfile.model.base import PATTERN, FlowModel, Model, Name, Options, SourceName, Text
from spark_flow.jobfile.model.fields import date_text, one_or_many
from spark_flow.jobfile.model.problems import nearest, one_of, refuse, show
from spark_flow.storage.sources import source


def _unfold_step(value: Any) -> Any:
    return {"run": value} if isinstance(value, str) else value


class SplitSinkModel(SinkModel):
    """A branch of a split: a sink, and what is done with the shared frame before."""

    step: Annotated[StepModel | None, BeforeValidator(_unfold_step)] = None
    spark: Options = Field(default_factory=dict)


class ParallelSplitModel(FlowModel):
    """One frame to several sinks; a mapping without ``sinks`` is that of the sinks."""

    bare = "sinks"
    in_transaction = True
    pattern: Literal["parallel_split"] = Field("parallel_split", alias=PATTERN)
    name: Name = "split"
    sinks: dict[Name, SplitSinkModel]
    share: Literal["MEMORY_AND_DISK", "MEMORY_ONLY", "DISK_ONLY", "boundary"] = "MEMORY_AND_DISK"
    loading_time: Text | None = None
    max_in_flight: Annotated[StrictInt, Field(ge=1)] = 4
    mode: Literal["threads", "intermediary"] = Field("threads", validate_default=True)

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


class ByParameter(Model):
    """The file's ``parameters.<name>``, by ``--<name>`` on the command line."""

    name: Text
    equals: Text

    @field_validator("name")
    @classmethod
    def _is_declared(cls, value: str, info: ValidationInfo) -> str:
        known = (info.context or {}).get("parameters")
        if known is not None and value not in known:
            raise refuse(show(value), one_of(known) if known else "a name under parameters", nearest(value, known))
        return value


class _Asks(Protocol):
    @property
    def condition(self) -> Condition: ...


Asks = TypeVar("Asks", bound=_Asks)


def _asked(model: Asks) -> Asks:
    """The model, if its condition can be asked: else that is found out after other nodes were done."""
    try:
        _ = model.condition
    except InvalidCondition as error:
        raise refuse(error.found, error.expected) from error
    return model


class ByDate(Model):
    """The run's key: ``since`` a day, ``before`` a day, or both."""

    since: Annotated[str, BeforeValidator(date_text)] = ""
    before: Annotated[str, BeforeValidator(date_text)] = ""

    @property
    def condition(self) -> Condition:
        """As a choice asks it."""
        return by_date(since=self.since, before=self.before)

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        return _asked(self)


class ByShare(Model):
    """A share of all keys, by a stable hash."""

    share: Annotated[float, Field(ge=0, le=1)]
    salt: str = ""


class BySchema(Model):
    """Columns of a source, or of the frame so far."""

    source: SourceName | None = None
    has: Annotated[tuple[Text, ...], BeforeValidator(one_or_many)] = ()
    types: dict[str, Text] = Field(default_factory=dict)
    fields: Annotated[StrictInt, Field(ge=1)] | None = None
    min_fields: Annotated[StrictInt, Field(ge=1)] | None = None

    @property
    def condition(self) -> Condition:
        """As a choice asks it, of whatever data."""
        return by_schema(source("json", "any"), **self.model_dump(exclude={"source"}))

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        return _asked(self)


class ByData(Model):
    """Rows of the frame so far, bounded."""

    where: str = ""
    at_least: Annotated[StrictInt, Field(ge=1)] = 1
    within: Annotated[StrictInt, Field(ge=1)] = 100_000

    @field_validator("within")
    @classmethod
    def _holds_as_many(cls, value: int, info: ValidationInfo) -> int:
        least = info.data.get("at_least", 1)
        if value < least:
            raise refuse(f"{value}, with at_least {least}", "no less than at_least")
        return value


class WhenModel(Model):
    """The condition of a route: one of these."""

    by_parameter: ByParameter | None = None
    by_date: ByDate | None = None
    by_share: ByShare | None = None
    by_schema: BySchema | None = None
    by_data: ByData | None = Field(None, validate_default=True)

    @field_validator("by_data")
    @classmethod
    def _exactly_one(cls, value: ByData | None, info: ValidationInfo) -> ByData | None:
        given = [name for name, model in {**info.data, "by_data": value}.items() if model is not None]
        if len(given) != 1 and set(info.data) == set(cls.model_fields) - {"by_data"}:
            raise refuse(" and ".join(given) or "nothing", f"exactly {one_of(cls.model_fields)}")
        return value


CONDITIONS: Mapping[str, type[Model]] = {
    "by_parameter": ByParameter,
    "by_date": ByDate,
    "by_share": ByShare,
    "by_schema": BySchema,
    "by_data": ByData,
    "when": WhenModel,
}
"""Models of conditions, by the key that they stand under."""
