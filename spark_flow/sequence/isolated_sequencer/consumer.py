"""The consumer's side: wait for readiness markers, then read the tables at the versions that they pin."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spark_flow.core import fingerprint
from spark_flow.core.arrival_rules import RULES, Require, all_succeeded
from spark_flow.core.clock import Clock
from spark_flow.core.completeness import Completeness, together
from spark_flow.engine.lazy_frame import LazyFrame
from spark_flow.engine.node import Node, Target
from spark_flow.errors import InvalidArgument, InvalidMarker, InvalidRule, SparkFlowError, UpstreamNotReady
from spark_flow.sequence.isolated_sequencer.keys import KeyMap, keys_of, same_key
from spark_flow.sequence.isolated_sequencer.polling import (
    OnFailed,
    OnPartial,
    OnSkipped,
    Policy,
    Polling,
    Watch,
    poll,
)
from spark_flow.storage import files, key_folder, sources
from spark_flow.storage import markers as readiness
from spark_flow.storage.key_rows import is_key
from spark_flow.storage.markers import MARKERS, MarkedTable, Marker
from spark_flow.storage.sink_protocol import Intent, Written
from spark_flow.storage.sources import Source, source
from spark_flow.transforms.union import union_by_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession

    from spark_flow.engine.run import Run
    from spark_flow.ledger import Event


@dataclass(frozen=True)
class Handover:
    """The result of ``wait_for``: the provider's tables and markers.

    Attributes:
        node: The consumer's node that waited.
        frames: A frame per table with the rows of all keys, each key at the version in its marker.
        markers: The markers that were read, by dataset and key: ``daily_flights/2013-01-02``.
        completeness: Which of the datasets and keys have arrived.
    """

    node: str
    frames: Mapping[str, LazyFrame]
    markers: Mapping[str, Marker]
    completeness: Completeness

    @property
    def frame(self) -> LazyFrame:
        """The frame of the only table.

        Raises:
            InvalidArgument: There are several tables, or none.
        """
        if len(self.frames) != 1:
            found = f"{len(self.frames)} tables ({', '.join(self.frames)})"
            raise InvalidArgument(f"{self.node}: frame", found, "exactly one table; choose one with table")
        return next(iter(self.frames.values()))

    def table(self, name: str) -> LazyFrame:
        """Return the frame of a table.

        Raises:
            InvalidArgument: No marker has a table of this name.
        """
        if name not in self.frames:
            raise InvalidArgument(f"{self.node}: table", repr(name), f"one of: {', '.join(self.frames) or 'none'}")
        return self.frames[name]


def wait_for(
    run: Run,
    dataset: str | Sequence[str],
    *,
    keys: KeyMap | Sequence[str] = same_key,
    tables: Sequence[str] = (),
    markers: str = MARKERS,
    roots: Sequence[str] = (),
    require: Require = all_succeeded,
    on_failed: OnFailed = "fail",
    on_skipped: OnSkipped = "skip",
    on_partial: OnPartial = "pass_on",
    polling: Polling | None = None,
    clock: Clock | None = None,
    name: str = "",
) -> Handover:
    """Wait until a provider has marked this key's inputs ready, and read the tables at the versions in the markers.

    The tables are consistent with each other, even if the provider keeps writing. The markers that were read are
    recorded: a retry reads the same ones, plus any that were missing and have arrived since; a rerun waits again. The
    call blocks while it waits, and reports its progress.

    >>> day = wait_for(run, "daily_flights", polling=Polling(timeout=600))  # doctest: +SKIP
    >>> report = local_sequencer(run, day.frames["lake"], [by_carrier])  # doctest: +SKIP

    Args:
        run: The run.
        dataset: The dataset to wait for; several datasets with the same columns are unioned.
        keys: The provider's keys for the run's key: ``same_key``, ``hours_of_day(5, 23)``, ``last_days(7)``, your own
            function, or a list.
        tables: Required tables: a marker without one of them is rejected before anything is recorded.
        markers: The folder of markers.
        roots: Folders that may contain the tables; defaults to the parent of the markers folder. A marker comes from
            another team, so paths outside these folders are not read.
        require: How many of the datasets and keys must be ready. A rule that needs fewer than all is evaluated at the
            timeout.
        on_failed: If the provider failed: ``fail`` at once, ``wait`` until it is fixed, or ``ignore`` it.
        on_skipped: If the provider skipped the key: ``skip`` it as well, ``fail``, ``wait`` or ``ignore``.
        on_partial: If the data is approximate: ``pass_on`` as approximate, ``take`` it as complete, ``refuse`` it
            (fail), or ``wait`` until it is complete.
        polling: How often to poll, and the timeout.
        clock: The clock (for tests).
        name: The node's name; defaults to ``wait/<dataset>``.

    Raises:
        InvalidMarker: A marker cannot be trusted, or a table that it pins is missing.
        InvalidArgument: A policy, rule, key or polling setting is invalid.
        InvalidName: A dataset or key cannot be a folder name.
        InvalidRule: The rule requires more than there are.
        UpstreamFailed, UpstreamPartial: According to the policy (exit code 1).
        UpstreamSkipped: According to the policy (exit code 0): the key is skipped.
        UpstreamNotReady: The timeout has passed (exit code 75).
    """
    datasets = (dataset,) if isinstance(dataset, str) else tuple(dict.fromkeys(dataset))
    node = run.node(name or f"wait/{'-'.join(datasets)}")
    policy = Policy(on_failed=on_failed, on_skipped=on_skipped, on_partial=on_partial).check(node)
    polling = (polling or Polling()).check(node)
    if not isinstance(require, Require):
        raise InvalidRule(repr(require), type(require).__name__, f"a rule: {RULES}")
    paths = {f"{one}/{key}": readiness.path_of(markers, one, key) for one in datasets for key in keys_of(keys, run.key)}
    run.graph.waits[node] = tuple(paths.values())
    trusted = [files.absolute(root) for root in roots] or [_parent(markers)]
    digest = fingerprint.combine("wait", paths, dataclasses.astuple(policy), str(require), sorted(trusted), tables)
    watch = Watch(node, paths, trusted, tuple(tables), policy)
    detail = _wait_once(run, watch, digest, require.needed(len(paths)), polling, clock or Clock())
    arrived = {name: readiness.from_record(record) for name, record in detail["markers"].items()}
    run.upstream[node] = tuple(marker.at_path(paths[name]) for name, marker in arrived.items())
    own = Completeness(node=node, expected=tuple(paths), arrived=tuple(arrived))
    run.measure(own)
    passed_on = [part for marker in arrived.values() for part in marker.partial] if on_partial != "take" else []
    frames = _frames(run, node, digest, arrived, together([*passed_on, own]))
    return Handover(node, frames, arrived, own)


def _parent(folder: str) -> str:
    """Return the parent of a folder; of a bucket or a disk's root, itself."""
    path = files.absolute(folder)
    above, _, name = path.rpartition("/")
    return path if not name or above.endswith("/") else above or "/"


def _wait_once(run: Run, watch: Watch, digest: str, needed: int, polling: Polling, clock: Clock) -> Mapping[str, Any]:
    """Return the recorded detail of the wait, or wait now; plan mode polls once and records nothing."""

    def wait(_: Intent | None = None) -> Written:
        recorded = run.recorded(watch.node, digest)
        if recorded is not None:  # some arrived since, or are missing: the others are read as before
            watch.arrived.update(_readable(recorded.detail))
        enough = len(watch.arrived) >= needed
        return _wait(run, watch, clock, needed, dataclasses.replace(polling, timeout=0) if enough else polling)

    kept = run.keeps(watch.node)
    node = Node(name=watch.node, kind="marker", fingerprint=digest, writes=False)
    pinned = _Pinned(also_late=not kept)  # a partial backfill takes over what was pinned, and nothing later
    if not run.plan or kept or run.is_valid(node, pinned):
        return run.once(node, wait, pinned).detail
    polling = dataclasses.replace(polling, timeout=0)
    try:
        found = wait()
    except SparkFlowError as error:
        raise run.failed(watch.node, "marker", error, digest) from None
    run.plan_to(watch.node, "marker", found.reason, digest)
    return found.detail


@dataclasses.dataclass(frozen=True)
class _Pinned(Target):
    """The tables that a recorded wait pinned: invalid if one is missing, or if a late marker arrived."""

    also_late: bool

    def why_invalid(self, event: Event) -> str:
        readable = _readable(event.detail)
        gone = [name for name in event.detail["markers"] if name not in readable]
        if gone:
            return f"the pinned tables of {', '.join(gone)} are missing"
        paths = event.detail["paths"].items() if self.also_late else ()
        late = [name for name, path in paths if name not in readable and _is_ready(path)]
        return f"{', '.join(late)} arrived since" if late else ""


def _readable(detail: Mapping[str, Any]) -> dict[str, Marker]:
    """Return the recorded markers whose tables can still be read as pinned."""
    recorded = {name: readiness.from_record(record) for name, record in detail["markers"].items()}
    return {name: marker for name, marker in recorded.items() if not any(map(_why_missing, _tables_of(marker)))}


def _tables_of(marker: Marker) -> list[tuple[MarkedTable, str]]:
    return [(table, marker.key) for table in marker.tables.values()]


def _why_missing(pinned: tuple[MarkedTable, str]) -> str:
    try:
        return readiness.why_missing(*pinned)
    except OSError:
        return ""  # storage does not respond: assume that the table is still there


def _is_ready(path: str) -> bool:
    try:
        return readiness.read(path).state == "ready"
    except (OSError, InvalidMarker):
        return False


def _wait(run: Run, watch: Watch, clock: Clock, needed: int, polling: Polling) -> Written:
    """Poll until the markers are there.

    Raises:
        SparkFlowError: As ``wait_for`` does.
    """
    waited = poll(watch, polling, clock, functools.partial(run.waiting, watch.node, "marker"))
    missing = {**watch.ignored, **watch.waiting}
    if len(watch.arrived) < needed:
        watch.give_up()
        raise UpstreamNotReady(watch.node, missing, waited)
    ready = [_words(marker, clock) for marker in watch.arrived.values()]
    words = ready[0] if len(watch.paths) == 1 else f"{len(ready)} of {len(watch.paths)} ready"
    words += "".join(f"; without {name} ({why})" for name, why in missing.items())
    arrived = {name: watch.arrived[name] for name in watch.paths if name in watch.arrived}
    records = {name: readiness.as_record(marker) for name, marker in arrived.items()}
    detail = {"markers": records, "paths": dict(watch.paths), "looks": watch.looks, "waited_s": round(waited, 3)}
    return Written(reason=f"{words}; polled {watch.looks} time(s) in {waited:.1f} s", detail=detail)


def _words(marker: Marker, clock: Clock) -> str:
    """Describe a marker and its age, for display only: the provider's clock may be ahead of ours."""
    if marker.at is None or marker.at.tzinfo is None:
        return str(marker)
    age = (clock.now() - marker.at).total_seconds()
    return (
        f"{marker}, published {age:.1f} s ago"
        if age >= 0
        else f"{marker}, published by a clock that is {-age:.0f} s ahead of ours"
    )


def _frames(
    run: Run, node: str, digest: str, arrived: Mapping[str, Marker], completeness: tuple[Completeness, ...]
) -> dict[str, LazyFrame]:
    """Return a frame per table, over all markers that have arrived."""
    frames = {}
    for table in dict.fromkeys(name for marker in arrived.values() for name in marker.tables):
        pinned = {name: marker.tables[table] for name, marker in arrived.items() if table in marker.tables}
        what = fingerprint.combine(digest, table, {name: dataclasses.asdict(one) for name, one in pinned.items()})
        by_path = {one.path: _source_of(one) for one in pinned.values()}  # days of one table are one source
        for number, each in enumerate(by_path.values()):
            source_node = f"{node}/{table}" + (f"/{number}" if number else "")
            run.graph.sources[source_node] = each
            run.graph.uses(f"{node}/{table}", [source_node])
        build = functools.partial(_read_all, run, f"{node}/{table}", table, arrived)
        frames[table] = LazyFrame(run, f"{node}/{table}", "source", what, (), build, completeness)
    return frames


def _read_all(run: Run, node: str, table: str, arrived: Mapping[str, Marker]) -> DataFrame:
    without = [name for name, marker in arrived.items() if table not in marker.tables]
    if without:
        has = ", ".join(arrived[without[0]].tables)
        raise InvalidMarker(without[0], f"tables {has}", f"tables including {table!r}, because {node} unions all keys")
    frames = {name: _read(run.spark, marker.tables[table], marker.key) for name, marker in arrived.items()}
    return union_by_name(frames) if len(frames) > 1 else next(iter(frames.values()))


def _source_of(table: MarkedTable) -> Source:
    return source(table.format, table.path, version=table.version)


def _read(spark: SparkSession, table: MarkedTable, key: str) -> DataFrame:
    """Read the key's rows of a table at the version that its marker pins."""
    if table.format == "delta":
        frame = sources.read_delta(spark, _source_of(table), int(table.version or 0))
        return frame.where(is_key(table.column, key, table.value or "")) if table.column else frame
    if table.revision is not None:
        frame = key_folder.read(spark, table.path)  # lists the files first, then the manifest is checked
        replaced = readiness.replaced(table)
        if replaced:
            raise InvalidMarker(table.path, replaced, f"revision {table.revision}, as pinned")
        return frame
    return sources.read_files(spark, table.path, _source_of(table))
