"""A job's YAML file as a whole, and its sources; the entries of its flow are in ``flow.py``."""

from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    StrictBool,
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
    only_delta,
    walk,
)
from spark_flow.jobfile.model.fields import branch_names, references_schema, table_path
from spark_flow.jobfile.model.flow import FlowEntry
from spark_flow.jobfile.model.lineage import LineageModel
from spark_flow.jobfile.model.problems import Finding, findings, nearest, one_of, refuse, show
from spark_flow.jobfile.model.runner import RunnerModel
from spark_flow.jobfile.model.whole import flow_findings
from spark_flow.orchestration.shared_state import Read
from spark_flow.storage.files import is_uri
from spark_flow.storage.markers import MARKERS
from spark_flow.storage.reading import OWN_SCHEMA, refused
from spark_flow.storage.sources import BadRecordPolicy, Format, source


class SourceModel(Model):
    """Where a frame comes from."""

    format: Format
    path: FilePath
    branches: Annotated[tuple[str, ...] | None, BeforeValidator(branch_names)] = Field(None, validate_default=True)
    schema_: Annotated[Text | None, AfterValidator(references_schema)] = Field(None, alias="schema")
    bad_records: BadRecordPolicy | None = None
    options: Options = Field(default_factory=dict, validate_default=True)
    version: Annotated[StrictInt, Field(ge=0)] | None = None
    per_key: StrictBool | None = None  # filled by ``load``: whether another key gives another path
    parent: FilePath | None = None  # filled by ``load``: the folder that all keys and branches have in common

    def branch_names(self) -> tuple[str, ...]:
        """The branches, in order; none if the source has none."""
        return self.branches or ()

    @field_validator("path")
    @classmethod
    def _deltalake_can_open_it(cls, value: str, info: ValidationInfo) -> str:
        return table_path(value) if info.data.get("format") == "delta" else value

    @field_validator("branches")
    @classmethod
    def _branches_are_in_the_path(cls, value: object, info: ValidationInfo) -> object:
        path = info.data.get("path")
        if path is not None and value is not None and "{branch}" not in path:
            raise refuse(
                f"branches, and path {path!r}",
                "{branch} in path",
                "Put {branch} where the branch's name stands.",
            )
        return value

    @field_validator("schema_")
    @classmethod
    def _a_table_has_its_own(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("format") == "delta":
            raise refuse(*OWN_SCHEMA)
        return value

    @field_validator("bad_records")
    @classmethod
    def _bad_records_need_a_schema(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and info.data.get("format") in {"delta", "parquet"}:
            raise refuse(f"bad_records with format {info.data['format']}", "format json or csv", "Leave it out.")
        if value is not None and info.data.get("schema_", "") is None:
            raise refuse("bad_records without schema", "a schema", "Records are checked by the schema: set schema.")
        return value

    @field_validator("options")
    @classmethod
    def _options_go_with_the_rest(cls, value: dict[str, Any], info: ValidationInfo) -> object:
        has_schema = info.data.get("schema_") is not None
        given = {name: str(each) for name, each in value.items()}
        for problem in refused(info.data.get("format", ""), has_schema=has_schema, quarantine=False, options=given):
            raise refuse(*problem)
        return value

    @field_validator("version")
    @classmethod
    def _version_is_of_delta(cls, value: object, info: ValidationInfo) -> object:
        return only_delta("version", value, info)


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
        "summary-json",
        "request-id",
        "debug",
        "help",
    }
)
"""The options of jobs and runners: a parameter of such a name could not be given."""


class ParameterModel(Model):
    """An argument of the job, given by ``--<name>``: one of a few values."""

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


class JobConfig(Model):
    """A whole file."""

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
        handed_over = any(entry.reads_delta for entry in entries)
        quarantined = any(one.bad_records == "quarantine" for one in self.sources.values())
        delta = {"delta"} if writes_delta or handed_over or quarantined else set[str]()
        return delta | {source.format for source in self.sources.values()}

    @property
    def rows_of_key(self) -> str:
        """The rows of our own tables that a run of the key replaces."""
        return f"key = '{self.key}'"

    def paths_of(self, source_name: str, node: str, branches: Sequence[str] = ()) -> Touched:
        """The paths that a node reads of a source, those of all its branches; none of a table with a given version."""
        model = self.sources[source_name]
        if model.version is None:
            found = source(model.format, model.path, branches=branches or model.branch_names())
            yield from (Read(node, path) for path in found.paths)

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
