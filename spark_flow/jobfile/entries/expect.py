"""``expect``: rules on the frame, before anything that is made from it reaches a sink."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field, StrictInt, ValidationInfo, field_validator

from spark_flow.errors import InvalidArgument
from spark_flow.jobfile.model.base import PATTERN, Model, Name, TablePath, Text, frame_of, walk
from spark_flow.jobfile.model.fields import one_or_many
from spark_flow.jobfile.model.limits import LimitedModel
from spark_flow.jobfile.model.problems import Finding, refuse, show
from spark_flow.orchestration.shared_state import Write
from spark_flow.sequence import expect
from spark_flow.sequence.expect import Otherwise, Rule, check_rules
from spark_flow.storage.files import absolute

if TYPE_CHECKING:
    from spark_flow.engine.lazy_frame import LazyFrame
    from spark_flow.engine.writing import Scope
    from spark_flow.jobfile.interpreter import Flow
    from spark_flow.jobfile.model.base import Touched
    from spark_flow.jobfile.model.job import JobConfig


class RuleModel(Model):
    """A rule of one of three kinds: ``that`` on each row, ``unique``, or ``at_least`` and ``at_most`` rows.

    Attributes:
        that: SQL that is true for each row; NULL is not true.
        unique: Columns that identify a row.
        at_least: The smallest number of rows.
        at_most: The largest number of rows.
        otherwise: If it does not hold: ``fail``, ``warn`` (the rows are counted), or ``quarantine`` the rows of
            ``that``.
    """

    that: Text | None = None
    unique: Annotated[tuple[Text, ...], BeforeValidator(one_or_many)] = ()
    at_least: Annotated[StrictInt, Field(ge=0)] | None = None
    at_most: Annotated[StrictInt, Field(ge=0)] | None = None
    otherwise: Otherwise = "fail"

    def rule(self) -> Rule:
        """The rule that it describes."""
        return Rule(**{**self.model_dump(), "that": self.that or ""})


class ExpectModel(LimitedModel):
    """Rules on the frame; a mapping without ``rules`` is that of the rules.

    Attributes:
        name: The node's name.
        quarantine: The Delta table that rows are set aside in.
        rules: The rules by name.
    """

    bare = "rules"
    named = {"rules": RuleModel}  # noqa: RUF012 - declared as a class variable
    makes_frame = True
    kind = "expect"
    pattern: Literal["expect"] = Field("expect", alias=PATTERN)
    name: Name = "expect"
    quarantine: TablePath | None = None
    rules: dict[Name, RuleModel]

    def nodes(self) -> tuple[str, ...]:
        """The check, and the table of rows that were set aside."""
        return (self.name, *([f"{self.name}/quarantine"] if self.quarantine else []))

    @property
    def uses_delta(self) -> bool:
        """The table of rows that were set aside is one."""
        return self.quarantine is not None

    def problems(self, config: "JobConfig") -> Iterator[Finding]:
        """Each check has a table of its own."""
        yield from super().problems(config)
        others = [one for one in walk(config.flow) if isinstance(one, ExpectModel) and one is not self]
        if self.quarantine and any(one.quarantine == self.quarantine for one in others):
            yield Finding(("quarantine",), f"{show(self.quarantine)} again", "a table of its own")

    @field_validator("rules")
    @classmethod
    def _each_says_something(cls, value: dict[str, RuleModel], info: ValidationInfo) -> dict[str, RuleModel]:
        try:
            check_rules("rules", {name: one.rule() for name, one in value.items()}, info.data.get("quarantine") or "")
        except InvalidArgument as error:
            name = error.where.partition(": ")[2]
            raise refuse(f"{error.found} in {name}" if name else error.found, error.expected) from error
        return value

    def call(self, flow: "Flow", scope: "Scope", frame: "LazyFrame | None") -> "LazyFrame":  # noqa: ARG002
        """Check the frame."""
        rules = {name: one.rule() for name, one in self.rules.items()}
        return expect(scope.run, frame_of(frame), rules, name=self.name, quarantine=self.quarantine or "")

    def footprint(self, config: "JobConfig", above: str) -> "Touched":
        """The table of rows that were set aside."""
        if self.quarantine:
            yield Write(f"{above}{self.name}/quarantine", absolute(self.quarantine), config.rows_of_key)

    def described(self, config: "JobConfig") -> Mapping[str, object]:  # noqa: ARG002
        """Its rules."""
        return {"rules": {name: one.model_dump(exclude_defaults=True) for name, one in self.rules.items()}}
