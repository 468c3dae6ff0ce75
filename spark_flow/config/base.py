"""What all models of the YAML file share."""
# Read by pydantic at run time, so the modules of models do without `from __future__ import annotations`.

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationInfo

from spark_flow.config.fields import option, valid_name
from spark_flow.config.problems import refuse

PATTERN = "<pattern>"  # a key that nobody writes: an entry's own name, moved inside for pydantic to choose by

Name = Annotated[str, AfterValidator(valid_name)]
Text = Annotated[str, Field(min_length=1)]
Options = dict[str, Annotated[str | int | bool, PlainValidator(option)]]
Format = Literal["delta", "json", "csv", "parquet"]


class Model(BaseModel):
    """Frozen, and closed to keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def keys(cls) -> tuple[str, ...]:
        """The keys that may be written, by their names in the file."""
        names = (field.alias or name for name, field in cls.model_fields.items())
        return tuple(name for name in names if name != PATTERN)


def only_delta(key: str, value: object, info: ValidationInfo) -> object:
    """Refuse a key of Delta tables where another format is given."""
    kind = info.data.get("format", "delta")
    if value not in (None, {}) and kind != "delta":
        raise refuse(f"{key} with format {kind}", "format delta", "Leave it out, or write a Delta table.")
    return value
