"""A run failed: exit code 1."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from spark_flow.errors.base import RunError, describe
from spark_flow.errors.cause import BRANCH_LIMIT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SHOWN = 8  # branches of which a message says why they failed


@dataclass(eq=False, repr=False)
class NodeFailed(RunError):
    """A node's action raised; ``cause`` is what it raised."""

    node: str
    cause: BaseException

    def _text(self) -> str:
        return f"{self.node} failed: {describe(self.cause)}"


@dataclass(eq=False, repr=False)
class ExpectationFailed(RunError):
    """A frame does not meet a rule with ``fail``; nothing that is made from it reached a sink."""

    node: str
    rule: str
    found: str

    def _text(self) -> str:
        return (
            f"{self.node}: expectation {self.rule!r} is not met: {self.found}. Nothing was written. Correct the data, "
            "and run with --rerun: recorded branches and checkpoints are not read again. Or change the rule, or its "
            "otherwise to warn or quarantine, and run the same command again."
        )


@dataclass(eq=False, repr=False)
class NodeTimedOut(RunError):
    """A node took longer than it may; its Spark jobs were cancelled."""

    node: str
    timeout: float

    def _text(self) -> str:
        return (
            f"{self.node}: stopped after {self.timeout:g} s (timeout). Its Spark jobs were cancelled and nothing of it "
            "was recorded as done. Run the same command again, or raise its timeout."
        )


@dataclass(eq=False, repr=False)
class NotRecorded(RunError):
    """A node that a partial backfill takes over would have to run; it did not, and nothing was recorded."""

    node: str
    reason: str
    remedy: str = ""

    def _text(self) -> str:
        return (
            f"{self.node} is not part of this backfill, but would have to run: {self.reason}. "
            f"{self.remedy or f'Start at {self.node} or before it (--from)'}, or leave out --from and --only; "
            "--rerun recomputes the whole key."
        )


@dataclass(eq=False, repr=False)
class MissingInput(RunError):
    """A file, folder or table that a source needs is not there; ``missing`` names each."""

    source: str
    missing: Sequence[str]

    def _text(self) -> str:
        return (
            f"source {self.source!r}: not found: {', '.join(self.missing)}. "
            "Check the path and the key, or wait until the provider has delivered."
        )


@dataclass(eq=False, repr=False)
class SourceNotReadable(RunError):
    """A database or another service that a source reads from does not answer, or refuses."""

    source: str
    format: str
    options: Mapping[str, str]
    reason: str

    def _text(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in self.options.items())
        return (
            f"source {self.source!r} ({self.format}, {options}) cannot be read: {self.reason}. "
            "Check its options and that the service runs, then run the same command again."
        )


@dataclass(eq=False, repr=False)
class BadRecords(RunError):
    """A record does not fit the schema of its source, which has ``bad_records: fail``."""

    source: str
    file: str
    reason: str

    def _text(self) -> str:
        return (
            f"source {self.source!r}: bad record in {self.file or 'its files'}: {self.reason}. "
            "Fix the file, or set bad_records: quarantine to set such records aside and continue."
        )


@dataclass(eq=False, repr=False)
class HeaderMismatch(RunError):
    """A CSV file's header is not that of the source: Spark takes columns by position, so they would be mixed up."""

    source: str
    file: str
    found: Sequence[str]
    expected: Sequence[str]

    def _text(self) -> str:
        return (
            f"source {self.source!r}: the header of {self.file} is {', '.join(self.found)}; "
            f"expected {', '.join(self.expected)}, in this order. Fix the file, or read "
            "files of another header as a source (or branch) of their own."
        )


@dataclass(eq=False, repr=False)
class BranchesFailed(RunError):
    """Branches of a fan-in or a split failed; ``errors`` holds each one's. The others are recorded, and reused."""

    node: str
    errors: Mapping[str, BaseException]
    expected: int

    def _text(self) -> str:
        each = [f"\n  {name}: {reason_of(error)}" for name, error in list(self.errors.items())[:_SHOWN]]
        each += [f"\n  and {len(self.errors) - _SHOWN} more"] if len(self.errors) > _SHOWN else []
        return f"{self.node}: {len(self.errors)} of {self.expected} branches failed:{''.join(each)}"


@dataclass(eq=False, repr=False)
class ApplicationFailed(RunError):
    """A branch that runs as its own application failed."""

    node: str
    reason: str

    def _text(self) -> str:
        return f"{self.node}: its application failed: {self.reason}"


@dataclass(eq=False, repr=False)
class UpstreamFailed(RunError):
    """A provider reports that it failed; ``failed`` holds the message of each."""

    node: str
    failed: Sequence[str]

    def _text(self) -> str:
        return f"{self.node}: {'; '.join(self.failed)}. Fix the provider, then run the same command again."


@dataclass(eq=False, repr=False)
class UpstreamPartial(RunError):
    """A provider's data is approximate, and on_partial is refuse."""

    node: str
    partial: Sequence[str]

    def _text(self) -> str:
        return (
            f"{self.node}: {'; '.join(self.partial)}; expected it to be complete (on_partial: refuse). "
            "Run again when the provider has completed it, or set on_partial to pass_on, take or wait."
        )


@dataclass(eq=False, repr=False)
class InvalidMarker(RunError):
    """A readiness marker that cannot be trusted: its tables are not read.

    Attributes:
        cut_off: Whether it may be one that another tool has not finished writing.
    """

    remedy: ClassVar[str] = "Rerun the provider to publish the key again."
    path: str
    found: str
    expected: str
    cut_off: bool = field(default=False, kw_only=True)

    def _text(self) -> str:
        return f"marker {self.path}: found {self.found}; expected {self.expected}. {self.remedy}"


class MarkerTooNew(InvalidMarker):
    """A readiness marker of a newer version of spark_flow; it is neither read nor overwritten."""

    remedy: ClassVar[str] = "Upgrade spark-flow."


class OutsideRoots(InvalidMarker):
    """A readiness marker names a table outside of the folders that its reader allows."""

    remedy: ClassVar[str] = "Add the table's folder to roots, if you trust it."


@dataclass(eq=False, repr=False)
class TriggeredFailed(RunError):
    """A consumer that was triggered ended in a state that is not allowed."""

    node: str
    consumer: str
    state: str
    reason: str
    allowed: Sequence[str]

    def _text(self) -> str:
        return f"{self.node}: {self.consumer} ended {self.state}, expected {' or '.join(self.allowed)}: {self.reason}"


@dataclass(eq=False, repr=False)
class NotEnoughBranches(RunError):
    """Fewer branches arrived than the rule requires; nothing was merged."""

    node: str
    rule: str
    arrived: int
    failed: Mapping[str, str]
    absent: Mapping[str, str]

    def _text(self) -> str:
        expected = self.arrived + len(self.failed) + len(self.absent)
        why = [f"{name} failed: {error}" for name, error in self.failed.items()]
        why += [f"not arrived: {', '.join(self.absent)}"] if self.absent else []
        found = f"{self.arrived} of {expected} branches arrived, expected {self.rule}"
        return f"{self.node}: {found}; nothing was merged. {'; '.join(why)}"


@dataclass(eq=False, repr=False)
class NotExclusive(RunError):
    """Of the routes of a choice not exactly one has a condition that holds; ``conditions`` holds what each found."""

    node: str
    holding: Sequence[str]
    conditions: Mapping[str, str]

    def _text(self) -> str:
        found = f"{', '.join(self.holding)} hold" if self.holding else "no condition holds"
        told = "".join(f"\n  {route}: {words}" for route, words in self.conditions.items())
        return f"{self.node}: {found}, expected exactly one; name a default, or fix the conditions:{told}"


@dataclass(eq=False, repr=False)
class StoppedBySibling(RunError):
    """A branch was stopped because another one failed."""

    node: str

    def _text(self) -> str:
        return f"{self.node}: stopped, because another branch failed (on_failure: stop)."


@dataclass(eq=False, repr=False)
class TookFallback(RunError):
    """A fan-in had nothing to merge, and its fallback ran instead: the run must not look like a success."""

    node: str
    what: str

    def _text(self) -> str:
        return (
            f"{self.node}: no branch arrived; the fallback ran instead: {self.what}. "
            "Run the same command again when there is data."
        )


@dataclass(eq=False, repr=False)
class NotNotified(RunError):
    """A notification could not be sent. Its address is not shown: it may hold a secret."""

    variable: str
    reason: str

    def _text(self) -> str:
        return (
            f"the services in {self.variable} were not notified: {self.reason}. The run continues; a retry sends again."
        )


@dataclass(eq=False, repr=False)
class SummaryNotWritten(RunError):
    """The file of ``--summary-json`` could be written before the run, and cannot any more."""

    path: str
    reason: str

    def _text(self) -> str:
        return (
            f"{self.path}: the summary cannot be written: {self.reason}; expected a file that can be written, as at "
            "the start of the run. The run itself ended as its ledger says: `spark-flow status`."
        )


@dataclass(eq=False, repr=False)
class OutsideKey(RunError):
    """Rows belong to another key than the one being written."""

    node: str
    key: str
    found: Sequence[str]

    def _text(self) -> str:
        return (
            f"{self.node}: the frame holds rows of {', '.join(self.found)}, expected only key {self.key}. "
            "Filter the frame to its key before it is written."
        )


@dataclass(eq=False, repr=False)
class InvalidMergeKeys(RunError):
    """Rows to merge have no key of their own: ``keys`` names some of those that occur twice or hold NULL."""

    node: str
    keys: Sequence[str]
    count: int

    def _text(self) -> str:
        more = f" and {self.count - len(self.keys)} more" if self.count > len(self.keys) else ""
        return (
            f"{self.node}: {self.count} key(s) occur twice or hold NULL: {'; '.join(self.keys)}{more}. Nothing was "
            "written. A merge needs one row for each key: keep the newest in a step before, or name more columns in on."
        )


@dataclass(eq=False, repr=False)
class OtherTimeZone(RunError):
    """A key's text is another instant now than when its rows were written: replacing it would leave the old rows."""

    node: str
    key: str
    written: str
    now: str
    zone: str

    def _text(self) -> str:
        return (
            f"{self.node}: key {self.key} was written as {self.written}, and is {self.now} in this session's time "
            f"zone {self.zone}. Set spark.sql.session.timeZone to the zone that it was written in."
        )


@dataclass(eq=False, repr=False)
class ConstraintViolated(RunError):
    """A row breaks a constraint of its Delta table; nothing was written.

    Attributes:
        constraint: As ``CHECK pos (id > 0)`` or ``NOT NULL trip.fare``.
        values: The row's values of the columns that it is about, where Delta reports them.
    """

    node: str
    path: str
    constraint: str
    values: Mapping[str, str]

    def _text(self) -> str:
        values = ", ".join(f"{name} = {value}" for name, value in self.values.items())
        row = f" by a row with {values}" if values else ""
        return (
            f"{self.node}: constraint {self.constraint} of {self.path} is violated{row}. "
            "Nothing was written: fix the data."
        )


@dataclass(eq=False, repr=False)
class NotRepresentable(RunError):
    """A file format cannot hold a frame's values: what a reader gets is not what was written. Nothing was published."""

    node: str
    format: str
    expected: str
    found: str
    fix: str

    def _text(self) -> str:
        return (
            f"{self.node}: wrote {self.expected} as {self.format}, and a reader gets {self.found}. "
            f"Nothing was published. {self.fix}"
        )


@dataclass(eq=False, repr=False)
class WriteNotProved(RunError):
    """A write returned without error, but the target does not hold it."""

    path: str
    expected: str
    found: str

    def _text(self) -> str:
        return (
            f"{self.path}: expected {self.expected}, found {self.found}: the write was dropped or undone. "
            "It was not recorded as done; run again."
        )


@dataclass(eq=False, repr=False)
class SetNotVisible(RunError):
    """A transaction's tables were not all committed, or were changed since."""

    name: str
    key: str
    reason: str

    def _text(self) -> str:
        return (
            f"transaction {self.name!r} of key {self.key}: {self.reason}. "
            "Run the pipeline's job for this key to complete it."
        )


def reason_of(error: BaseException, limit: int = BRANCH_LIMIT) -> str:
    """What a node's error says, for a message that names the node itself."""
    return describe(error.cause if isinstance(error, NodeFailed) else error, limit)
