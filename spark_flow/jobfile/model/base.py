"""What all models of the YAML file share."""
# Read by pydantic at run time, so the modules of models do without `from __future__ import annotations`.

from collections.abc import Collection
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationInfo

from spark_flow.jobfile.model.fields import option, sink_format, source_name, table_path, valid_name
from spark_flow.jobfile.model.problems import refuse

PATTERN = "<pattern>"  # a key that nobody writes: an entry's own name, moved inside for pydantic to choose by

Name = Annotated[str, AfterValidator(valid_name)]
Text = Annotated[str, Field(min_length=1)]
TablePath = Annotated[Text, AfterValidator(table_path)]
SourceName = Annotated[Text, AfterValidator(source_name)]
Options = dict[str, Annotated[str | int | bool, PlainValidator(option)]]
Format = Literal["delta", "json", "csv", "parquet"]
SinkFormat = Annotated[Text, AfterValidator(sink_format)]


class Model(BaseModel):
    """Frozen, and closed to keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def keys(cls) -> tuple[str, ...]:
        """The keys that may be written, by their names in the file."""
        names = (field.alias or name for name, field in cls.model_fields.items())
        return tuple(name for name in names if name != PATTERN)


class FlowModel(Model):
    """The body of one entry of a flow."""

    short: ClassVar[tuple[str, type] | None] = None  # `step: x` is `step: {run: x}` if x is of this type
    bare: ClassVar[str | None] = None  # a mapping without this key is the value of this key
    in_transaction: ClassVar[bool] = False  # whether it may stand in a transaction
    pattern: str = Field(alias=PATTERN)

    @property
    def starts_chain(self) -> bool:
        """Whether it needs no frame before it."""
        return False

    def nodes(self) -> tuple[str, ...]:
        """The names that the entry takes in its run."""
        return ()

    def within(self, without: Collection[str] = ()) -> tuple["FlowModel", ...]:  # noqa: ARG002 - of choices
        """The entries within it; of a choice without those of some routes, given by their nodes."""
        return ()

    def reads(self) -> tuple[str, ...]:
        """Names of sources that it reads whole; other names may be among them."""
        return ()


def only_delta(key: str, value: object, info: ValidationInfo) -> object:
    """Refuse a key of Delta tables where another format is given."""
    kind = info.data.get("format", "delta")
    if value not in (None, {}) and kind != "delta":
        raise refuse(f"{key} with format {kind}", "format delta", "Leave it out, or write a Delta table.")
    return value
