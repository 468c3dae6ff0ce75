"""``wait_for``: what another pipeline hands over."""

from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from spark_flow.core.arrival_rules import parse
from spark_flow.errors import InvalidArgument, InvalidName
from spark_flow.jobfile.entries.publish import PublishModel
from spark_flow.jobfile.model.base import PATTERN, FilePath, FlowModel, Name, Names, Seconds, Text, walk
from spark_flow.jobfile.model.fields import one_or_many, rule_text
from spark_flow.jobfile.model.problems import Finding, refuse, show
from spark_flow.orchestration.shared_state import Read
from spark_flow.sequence import Polling, wait_for
from spark_flow.sequence.isolated_sequencer.keys import KEY_MAPS, keys_of, parse_keys
from spark_flow.sequence.isolated_sequencer.polling import OnFailed, OnPartial, OnSkipped
from spark_flow.storage import markers

if TYPE_CHECKING:
    from spark_flow.engine.lazy_frame import LazyFrame
    from spark_flow.engine.writing import Scope
    from spark_flow.jobfile.interpreter import Flow
    from spark_flow.jobfile.model.base import Touched
    from spark_flow.jobfile.model.job import JobConfig


def _keys(value: str) -> str:
    try:
        parse_keys(value)
    except InvalidArgument as error:
        raise refuse(show(value), KEY_MAPS) from error
    return value


class WaitForModel(FlowModel):
    """What another pipeline hands over; a bare name is that of the dataset.

    Attributes:
        name: The node's name; by default ``wait/<dataset>``.
        dataset: The dataset, or several with the same columns, which are stacked.
        keys: The provider's keys for the run's key: ``same``, ``hours_of_day(05..23)``, ``last_days(7)``.
        table: The table that becomes the current frame; by default the only one.
        also: More tables, which steps name in ``with``.
        markers: The folder of markers; by default the file's ``markers``.
        roots: Folders that may contain the tables; by default the parent of the folder of markers.
        require: How many of the datasets and keys must be ready.
        on_failed: If the provider failed: ``fail`` at once, ``wait`` until it is fixed, or ``ignore`` it.
        on_skipped: If the provider skipped the key: ``skip`` it too, ``fail``, ``wait`` or ``ignore``.
        on_partial: If the data is approximate: ``pass_on`` as approximate, ``take`` it as complete, ``refuse`` it
            (exit code 1), or ``wait`` until it is complete.
        timeout: Seconds until giving up (exit code 75); 0 looks once.
        interval: Seconds between the first two looks.
        backoff: The factor by which each pause grows.
        max_interval: The longest pause in seconds, before jitter.
        jitter: Each pause grows by up to this share of itself, at random.
    """

    short = ("dataset", str)
    knows_completeness = True
    makes_frame = True
    kind = "marker"
    pattern: Literal["wait_for"] = Field("wait_for", alias=PATTERN)
    name: Name | None = None
    dataset: Annotated[Names, Field(min_length=1)]
    keys: Annotated[Text, AfterValidator(_keys)] = "same"
    table: Text | None = None
    also: Names = ()
    markers: FilePath | None = None
    roots: Annotated[tuple[FilePath, ...], BeforeValidator(one_or_many)] = ()
    require: Annotated[Text, AfterValidator(rule_text)] = "all_succeeded"
    on_failed: OnFailed = "fail"
    on_skipped: OnSkipped = "skip"
    on_partial: OnPartial = "pass_on"
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
    def uses_delta(self) -> bool:
        """What is handed over may be Delta tables."""
        return True

    @property
    def boundary(self) -> bool:
        """What is handed over is recorded."""
        return True

    @property
    def polling(self) -> Polling:
        """When to look."""
        names = ("timeout", "interval", "backoff", "max_interval", "jitter")
        return Polling(**{name: getattr(self, name) for name in names})

    def nodes(self) -> tuple[str, ...]:
        """The wait's name."""
        return (self.name or f"wait/{'-'.join(self.dataset)}",)

    def described(self, config: "JobConfig") -> Mapping[str, object]:
        """What a sensor needs to wait as it does."""
        names = ("keys", "roots", "on_failed", "on_skipped", "on_partial", "timeout", "interval")
        facts = self.model_dump(mode="json", include=set(names))
        markers = self.markers or config.markers
        return {"datasets": list(self.dataset), "markers": markers, "rule": self.require, **facts}

    @field_validator("timeout", "interval", "backoff", "max_interval", "jitter")
    @classmethod
    def _can_be_waited_by(cls, value: float, info: ValidationInfo) -> float:
        try:
            Polling(**{str(info.field_name): value}).check("polling")
        except InvalidArgument as error:
            raise refuse(error.found, error.expected) from error
        return value

    def problems(self, config: "JobConfig") -> Iterator[Finding]:
        """Each of its tables has a name of its own, and it does not wait for what the run publishes."""
        yield from super().problems(config)
        before = takewhile(lambda entry: entry is not self, walk(config.flow))
        taken = {*config.sources, *(table for one in before if isinstance(one, WaitForModel) for table in one.also)}
        for at, table in enumerate(self.also):
            if table in taken or table in self.also[:at]:
                fix = "Steps name both in with."
                yield Finding(("also",), f"{table!r} again", "a name of its own", fix)
        entries = walk(config.flow) if self._waits_for_its_run(config) else ()
        published = {entry.dataset for entry in entries if isinstance(entry, PublishModel)}
        for name in (name for name in self.dataset if name in published):
            fix = "Wait for keys before it, or for another dataset."
            found = f"{name!r} of this key, which it publishes itself"
            yield Finding((), found, "one that other runs publish", fix)

    def _waits_for_its_run(self, config: "JobConfig") -> bool:
        try:
            own_key = config.key in keys_of(parse_keys(self.keys), config.key)
        except (InvalidArgument, InvalidName):
            return False  # reported when it waits
        return own_key and self.markers in (None, config.markers)

    def call(self, flow: "Flow", scope: "Scope", frame: "LazyFrame | None") -> "LazyFrame":  # noqa: ARG002
        """Wait, and read what is handed over."""
        handover = wait_for(
            scope.run,
            self.dataset,
            keys=parse_keys(self.keys),
            tables=[*([self.table] if self.table else []), *self.also],
            markers=self.markers or flow.markers,
            roots=self.roots,
            require=parse(self.require),
            on_failed=self.on_failed,
            on_skipped=self.on_skipped,
            on_partial=self.on_partial,
            polling=self.polling,
            name=self.name or "",
        )
        flow.tables.update({table: handover.table(table) for table in self.also})
        return handover.table(self.table) if self.table else handover.frame

    def footprint(self, config: "JobConfig", above: str) -> "Touched":  # noqa: ARG002
        """The markers; the tables that they pin were written before, by other runs."""
        keys = keys_of(parse_keys(self.keys), config.key)
        for dataset, key in [(dataset, key) for dataset in self.dataset for key in keys]:
            yield Read(self.nodes()[0], markers.path_of(self.markers or config.markers, dataset, key))
