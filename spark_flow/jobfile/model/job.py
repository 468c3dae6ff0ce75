"""A job's YAML file as a whole, and its sources; the entries of its flow are in ``flow.py``."""

import re
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    StrictInt,
    ValidationInfo,
    field_validator,
    model_validator,
)
from typing_extensions import Self

from spark_flow.core.names import check_name
from spark_flow.engine.limits import Limits
from spark_flow.errors import InvalidArgument
from spark_flow.jobfile.model.base import (
    FilePath,
    Model,
    Name,
    Options,
    TablePath,
    Text,
    Touched,
    located,
    walk,
)
from spark_flow.jobfile.model.fields import variable_name
from spark_flow.jobfile.model.flow import FlowEntry
from spark_flow.jobfile.model.lineage import LineageModel
from spark_flow.jobfile.model.problems import Finding, findings, nearest, one_of, refuse, show
from spark_flow.jobfile.model.runner import RunnerModel
from spark_flow.jobfile.model.source import SourceModel
from spark_flow.jobfile.model.whole import flow_findings
from spark_flow.orchestration.shared_state import Read
from spark_flow.storage.files import is_uri
from spark_flow.storage.markers import MARKERS
from spark_flow.storage.sources import TABLE

OPTIONS = frozenset(
    {
        "config",
        "job",
        "plan",
        "rerun",
        "reprocess",
        "from",
        "only",
        "until",
        "json",
        "show",
        "remote",
        "summary-json",
        "request-id",
        "debug",
        "help",
    }
)
"""The options of jobs and runners: a parameter of such a name could not be given."""


class ParameterModel(Model):
    """An argument of the job, given by ``--<name>``: one of a few values.

    Attributes:
        values: The values that are allowed.
        value: The default; without one it must be given.
    """

    values: Annotated[tuple[Text, ...], Field(min_length=1)]
    value: Text | None = Field(None, validate_default=True)

    @field_validator("value")
    @classmethod
    def _is_allowed(cls, value: str | None, info: ValidationInfo) -> str | None:
        values = info.data.get("values", ())
        if values and value not in values:
            raise refuse(
                show(value), one_of(values), nearest(value, values) if value else "Give it on the command line."
            )
        return value


class OnFailureModel(Model):
    """Whom to notify when a run fails.

    Attributes:
        notify: The name of an environment variable with Apprise addresses, notified of each failed attempt.
    """

    notify: Annotated[Text, AfterValidator(variable_name)]


class JobConfig(Model):
    """A whole file: one pipeline, with its sources and its flow.

    Attributes:
        pipeline: The pipeline's name. It becomes a folder name: letters, digits, ``.``, ``_``, ``-``.
        key: The unit of work, a folder name too; usually ``???``, given on the command line as ``key=2013-01-02``.
        root: The folder at which relative paths start, relative to the file; by default the working folder.
        state: The state folder.
        output: The root of the outputs, used as ``${output}``.
        markers: The folder of readiness markers.
        retention_days: How many days the checkpoints of a succeeded run are kept.
        vars: Your own values, used as ``${vars.name}``.
        parameters: Arguments of the job by name, given as ``--name value``.
        lineage: Send events of OpenLineage.
        runner: How its keys are run: calendar, limits, pools.
        on_failure: Whom to notify of a failed attempt.
        spark: Settings of the Spark session that ``spark-flow run`` or a script makes, for example
            ``{spark.sql.catalogImplementation: hive}``, or ``spark.jars`` for a JDBC driver. A session that exists is
            not changed. ``spark-flow submit`` gives them to spark-submit, below your own options and without those
            that hold a secret.
        sources: Where frames are read from, by name.
        flow: The entries, in order.
    """

    pipeline: Name
    key: Annotated[str, AfterValidator(partial(check_name, "key"))]
    root: Text | None = None
    state: TablePath = "state"
    output: FilePath = "out"
    markers: FilePath = MARKERS
    retention_days: Annotated[StrictInt, Field(ge=0, le=36_500)] = 7
    vars: dict[str, Any] = Field(default_factory=dict)
    parameters: dict[Name, ParameterModel] = Field(default_factory=dict)
    lineage: LineageModel | None = None
    runner: RunnerModel = RunnerModel()
    on_failure: OnFailureModel | None = None
    spark: Options = Field(default_factory=dict)
    sources: dict[Name, SourceModel] = Field(default_factory=dict)
    flow: tuple[FlowEntry, ...]

    _secrets: tuple[str, ...] = PrivateAttr(())

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values of the file, and of the environment that it refers to, that are not to be recorded or shown."""
        return self._secrets

    def knowing(self, secrets: Iterable[str]) -> Self:
        """The same file, with the values that are not to be recorded or shown."""
        self._secrets = tuple(secrets)
        return self

    @model_validator(mode="after")
    def _is_whole(self, info: ValidationInfo) -> Self:
        wrong = flow_findings(self.flow, self.sources)
        for each in located(self.flow):
            wrong += [one._replace(loc=(*each.loc, *one.loc)) for one in each.entry.problems(self)]
        wrong += self._lineage_findings() + self._runner_findings() + self._parameter_findings()
        wrong += self._key_findings() if not (info.context or {}).get("any_key") else []
        if wrong:
            raise findings(*wrong)
        return self

    def formats(self, without: Collection[str] = ()) -> set[str]:
        """The formats that Spark reads, and ``delta`` if it writes it, routes of choices that were not taken left out.

        The ledger and the completeness do without Spark.
        """
        entries = list(walk(self.flow, without))
        writes_delta = any(sink.format == "delta" for entry in entries for sink in entry.written().values())
        besides = any(entry.uses_delta for entry in entries)
        quarantined = any(one.bad_records == "quarantine" for one in self.sources.values())
        read = {source.format for source in self.sources.values()}
        by_delta = writes_delta or besides or quarantined or TABLE in read  # which of them are pinned, Delta knows
        return ({"delta"} if by_delta else set[str]()) | read - {TABLE}

    @property
    def schemes(self) -> set[str]:
        """The schemes of all URIs of the file, for which Spark may need a library."""
        return set(re.findall(r'"([a-z0-9]+)://', self.model_dump_json()))

    @property
    def rows_of_key(self) -> str:
        """The rows of our own tables that a run of the key replaces."""
        return f"key = '{self.key}'"

    def paths_of(self, source_name: str, node: str, branches: Sequence[str] = ()) -> Touched:
        """The paths that a node reads of a source, those of all its branches; none of a table with a given version."""
        model = self.sources[source_name]
        if model.version is None:
            schema = "stand_in STRING" if model.schema_ else None  # bad_records needs one; references are not loaded
            yield from (Read(node, path) for path in model.source(schema, branches).paths)

    def limits(self) -> dict[str, Limits]:
        """How long nodes may take and how often they are tried, by node."""
        each = [(one, one.entry.limits()) for one in located(self.flow)]
        return {name: limits for one, limits in each if limits is not None for name in one.names}

    def branch_nodes(self) -> list[str]:
        """What ``--only`` may name: fan-ins and their branches."""
        return [node for entry in walk(self.flow) for node in entry.branch_nodes(self)]

    def _lineage_findings(self) -> list[Finding]:
        file = self.lineage is not None and self.lineage.transport == "file" and self.lineage.path is None
        if not (file and is_uri(self.state)):
            return []
        fix = "Storage of objects cannot be appended to: give path, or another transport."
        return [Finding(("lineage",), f"no path, and state {self.state!r}", "a local file", fix)]

    def _runner_findings(self) -> list[Finding]:
        """Whether the nodes that depend on the past are in the flow."""
        nodes = self.runner.depends_on_past
        known = [*(node for entry in self.flow for node in entry.nodes()), *self.sources]
        unknown = (
            [(at, node) for at, node in enumerate(nodes) if node not in known] if not isinstance(nodes, bool) else []
        )
        place = ("runner", "depends_on_past")
        return [Finding((*place, at), show(node), one_of(known), nearest(node, known)) for at, node in unknown]

    def _key_findings(self) -> list[Finding]:
        """Whether the key is written as those of the calendar."""
        try:
            self.runner.check_key(self.key)
        except InvalidArgument as error:
            return [Finding(("key",), error.found, error.expected, "A key names a folder and rows: each has one name.")]
        return []

    def _parameter_findings(self) -> list[Finding]:
        """Whether each parameter can be given as an option."""
        wrong = {name: "the name of an option of every job" for name in self.parameters if _option(name) in OPTIONS}
        options = [_option(name) for name in self.parameters]
        twice = [name for at, name in enumerate(self.parameters) if _option(name) in options[:at]]
        wrong |= {name: f"the option --{_option(name)} again" for name in twice}
        wrong |= {name: "a name with '.'" for name in self.parameters if "." in name}
        fix = "Give it another name."
        return [Finding(("parameters", name), what, "a name of its own", fix) for name, what in wrong.items()]


def _option(parameter: str) -> str:
    return parameter.replace("_", "-")
