"""``report_completeness``: a row of the completeness table, and a notification."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from spark_flow.fan_in import report_completeness
from spark_flow.jobfile.model.base import PATTERN, FlowModel, Name, TablePath, frame_of
from spark_flow.jobfile.model.fields import variable_name
from spark_flow.orchestration.shared_state import Write
from spark_flow.storage.files import absolute

if TYPE_CHECKING:
    from spark_flow.engine.lazy_frame import LazyFrame
    from spark_flow.engine.writing import Scope
    from spark_flow.jobfile.interpreter import Flow
    from spark_flow.jobfile.model.base import Touched
    from spark_flow.jobfile.model.job import JobConfig


class ReportCompletenessModel(FlowModel):
    """A row of the completeness table, and a notification; it comes after the writes.

    Attributes:
        name: The node's name.
        dataset: The dataset's name in the table.
        table: The path of a Delta table, which is created if it is missing.
        notify: The name of an environment variable with Apprise addresses, notified once of a partial key.
    """

    needs_completeness = True
    announces = True
    kind = "sink"
    pattern: Literal["report_completeness"] = Field("report_completeness", alias=PATTERN)
    name: Name = "completeness"
    dataset: Name
    table: TablePath
    notify: Annotated[str, AfterValidator(variable_name)] | None = None

    def nodes(self) -> tuple[str, ...]:
        """The row's name."""
        return (self.name,)

    def call(self, flow: "Flow", scope: "Scope", frame: "LazyFrame | None") -> "LazyFrame":  # noqa: ARG002
        """Write the row."""
        day, to = frame_of(frame), self.table
        report_completeness(scope.run, self.dataset, day, table=to, notify_by=self.notify or "", name=self.name)
        return day

    def footprint(self, config: "JobConfig", above: str) -> "Touched":  # noqa: ARG002
        """The table's rows of the key."""
        yield Write(self.name, absolute(self.table), config.rows_of_key)
