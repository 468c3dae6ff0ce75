"""The consumer's side: wait for readiness markers, and read what they pin."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spark_flow.engine.node import Node, Target
from spark_flow.core import fingerprint
from spark_flow.core.arrival_rules import RULES, Require, all_succeeded
from spark_flow.core.clock import Clock
from spark_flow.core.completeness import Completeness, together
from spark_flow.engine.lazy_frame import LazyFrame
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
    """What a provider has handed over.

    Attributes:
        node: The consumer's node that waited.
        frames: By table: the rows of all keys that were waited for, each key at its marker's version.
        markers: What was read, by dataset and key as ``daily_flights/2013-01-02``.
        completeness: Which of the datasets and keys have arrived.
    """

    node: str
    frames: Mapping[str, LazyFrame]
    markers: Mapping[str, Marker]
    completeness: Completeness

    @property
    def frame(self) -> LazyFrame:
        """The only table's frame.

        Raises:
            InvalidArgument: There are several tables, or none.
        """
        if len(self.frames) != 1:
            found = f"{len(self.frames)} tables ({', '.join(self.frames)})"
            raise InvalidArgument(f"{self.node}: frame", found, "one table; say which is meant (table)")
        return next(iter(self.frames.values()))

    def table(self, name: str) -> LazyFrame:
        """A table's frame.

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
    """Wait until a provider has marked what this key needs, and read just that: tables at the marker's versions.

    Several tables are one consistent set, even if the provider writes on. Which markers were read is recorded; a retry
    reads the same ones, and those that have come since, if some were missing; a rerun waits anew. Waiting happens in
    the call, and is shown.

    >>> day = wait_for(run, "daily_flights", polling=Polling(timeout=600))  # doctest: +SKIP
    >>> report = local_sequencer(run, day.frames["lake"], [by_carrier])  # doctest: +SKIP

    Args:
        run: The run.
        dataset: What to wait for; several datasets of one shape are stacked.
        keys: The provider's keys for the run's key: ``same_key``, ``hours_of_day(5, 23)``, ``last_days(7)``, a function
            of one's own, or a list.
        tables: Those that are needed: a marker without one is refused before anything is remembered.
        markers: The folder of markers.
        roots: Folders that the tables may lie in; by default the one that the folder of markers lies in. A marker
            comes from another team: what it names elsewhere is not read.
        require: How many of the datasets and keys must be ready; fewer than all are judged when the time is over.
        on_failed: Of a provider that failed: ``fail`` at once, ``wait`` on, or ``ignore`` it, as if it never came.
        on_skipped: Of a provider that skipped the key: ``skip`` it, too; ``fail``, ``wait`` or ``ignore``.
        on_partial: Of approximate data: ``pass_on`` as approximate, ``take`` as if it were whole, ``refuse`` (fail), or
            ``wait`` until it is complete.
        polling: When to look, and when to give up.
        clock: What time it is (tests).
        name: The node's name; by default ``wait/<dataset>``.

    Raises:
        InvalidMarker: A marker cannot be trusted, or what it pins is gone.
        InvalidArgument: A policy, rule, key or setting of the polling is none.
        InvalidName: A dataset or key cannot be a folder name.
        InvalidRule: More are required than there are.
        UpstreamFailed, UpstreamPartial: As the policy says (exit code 1).
        UpstreamSkipped: As the policy says (exit code 0): the key is skipped.
        UpstreamNotReady: The time is over (exit code 75).
    """
    datasets = (dataset,) if isinstance(dataset, str) else tuple(dict.fromkeys(dataset))
    node = run.node(name or f"wait/{'-'.join(datasets)}")
    policy = Policy(on_failed=on_failed, on_skipped=on_skipped, on_partial=on_partial).check(node)
    polling = (polling or Polling()).check(node)
    if not isinstance(require, Require):
        raise InvalidRule(repr(require), type(require).__name__, f"a rule: {RULES}")
    paths = {f"{one}/{key}": readiness.path_of(markers, one, key) for one in datasets for key in keys_of(keys, run.key)}
    run.graph.waits[node] = tuple(paths.values())
    trusted = [files.absolute(root) for root in roots] or [_around(markers)]
    made_of = fingerprint.combine("wait", paths, dataclasses.astuple(policy), str(require), sorted(trusted), tables)
    watch = Watch(node, paths, trusted, tuple(tables), policy)
    detail = _settle(run, watch, made_of, require.needed(len(paths)), polling, clock or Clock())
    arrived = {name: readiness.from_record(record) for name, record in detail["markers"].items()}
    run.upstream[node] = tuple(marker.at_path(paths[name]) for name, marker in arrived.items())
    own = Completeness(node=node, expected=tuple(paths), arrived=tuple(arrived))
    run.measure(own)
    passed_on = [part for marker in arrived.values() for part in marker.partial] if on_partial != "take" else []
    frames = _frames(run, node, made_of, arrived, together([*passed_on, own]))
    return Handover(node, frames, arrived, own)


def _around(folder: str) -> str:
    """The folder that a folder lies in; a bucket, or a disk's root, lies in none."""
    place = files.absolute(folder)
    above, _, name = place.rpartition("/")
    return place if not name or above.endswith("/") else above or "/"


def _settle(run: Run, watch: Watch, made_of: str, needed: int, polling: Polling, clock: Clock) -> Mapping[str, Any]:
    """What is recorded of the wait, or found by waiting; a plan looks once and records nothing."""

    def wait(_: Intent | None = None) -> Written:
        recorded = run.recorded(watch.node, made_of)
        if recorded is not None:  # some have come since, or are gone: the others stay as they were read
            watch.arrived.update(_standing(recorded.detail))
        enough = len(watch.arrived) >= needed
        return _wait(run, watch, clock, needed, dataclasses.replace(polling, timeout=0) if enough else polling)

    kept = run.keeps(watch.node)
    node = Node(name=watch.node, kind="marker", fingerprint=made_of, writes=False)
    pinned = _Pinned(also_late=not kept)  # a partial backfill takes over what was pinned, and nothing later
    if not run.plan or kept or run.is_valid(node, pinned):
        return run.once(node, wait, pinned).detail
    polling = dataclasses.replace(polling, timeout=0)
    try:
        found = wait()
    except SparkFlowError as error:
        raise run.failed(watch.node, "marker", error, fingerprint=made_of) from None
    run.plan_to(watch.node, "marker", found.reason, made_of)
    return found.detail


@dataclasses.dataclass(frozen=True)
class _Pinned(Target):
    """The tables that a recorded wait has pinned: invalid once one of them is gone, or a late one has come."""

    also_late: bool

    def why_invalid(self, event: Event) -> str:
        standing = _standing(event.detail)
        gone = [name for name in event.detail["markers"] if name not in standing]
        if gone:
            return f"what was read of {', '.join(gone)} is gone"
        paths = event.detail["paths"].items() if self.also_late else ()
        late = [name for name, path in paths if name not in standing and _is_ready(path)]
        return f"{', '.join(late)} has come since" if late else ""


def _standing(detail: Mapping[str, Any]) -> dict[str, Marker]:
    """The recorded markers whose tables can be read as they were."""
    recorded = {name: readiness.from_record(record) for name, record in detail["markers"].items()}
    return {name: marker for name, marker in recorded.items() if not any(map(_gone, _tables_of(marker)))}


def _tables_of(marker: Marker) -> list[tuple[MarkedTable, str]]:
    return [(table, marker.key) for table in marker.tables.values()]


def _gone(pinned: tuple[MarkedTable, str]) -> str:
    try:
        return readiness.lacking(*pinned)
    except OSError:
        return ""  # storage that does not answer tells nothing: what was pinned stays so


def _is_ready(path: str) -> bool:
    try:
        return readiness.read(path).state == "ready"
    except (OSError, InvalidMarker):
        return False


def _wait(run: Run, watch: Watch, clock: Clock, needed: int, polling: Polling) -> Written:
    """Look until the markers are there.

    Raises:
        SparkFlowError: As ``wait_for`` does.
    """
    waited = poll(watch, polling, clock, functools.partial(run.waiting, watch.node, "marker"))
    missing = {**watch.ignored, **watch.waiting}
    if len(watch.arrived) < needed:
        watch.give_up()
        raise UpstreamNotReady(watch.node, missing, waited)
    told = [_words(marker, clock) for marker in watch.arrived.values()]
    words = told[0] if len(watch.paths) == 1 else f"{len(told)} of {len(watch.paths)} ready"
    words += "".join(f"; without {name} ({why})" for name, why in missing.items())
    arrived = {name: watch.arrived[name] for name in watch.paths if name in watch.arrived}
    records = {name: readiness.as_record(marker) for name, marker in arrived.items()}
    detail = {"markers": records, "paths": dict(watch.paths), "looks": watch.looks, "waited_s": round(waited, 3)}
    return Written(reason=f"{words}; {watch.looks} look(s) in {waited:.1f} s", detail=detail)


def _words(marker: Marker, clock: Clock) -> str:
    """What a marker says, and how long ago; a provider's clock may be ahead of ours, so nothing is decided by it."""
    if marker.at is None or marker.at.tzinfo is None:
        return str(marker)
    age = (clock.now() - marker.at).total_seconds()
    return (
        f"{marker}, marked {age:.1f} s ago" if age >= 0 else f"{marker}, by a clock that is {-age:.0f} s ahead of ours"
    )


def _frames(
    run: Run, node: str, made_of: str, arrived: Mapping[str, Marker], completeness: tuple[Completeness, ...]
) -> dict[str, LazyFrame]:
    """A frame for each table, of all markers that have arrived."""
    frames = {}
    for table in dict.fromkeys(name for marker in arrived.values() for name in marker.tables):
        pinned = {name: marker.tables[table] for name, marker in arrived.items() if table in marker.tables}
        what = fingerprint.combine(made_of, table, {name: dataclasses.asdict(one) for name, one in pinned.items()})
        places = {one.path: _source_of(one) for one in pinned.values()}  # days of one table are one source
        for number, each in enumerate(places.values()):
            place = f"{node}/{table}" + (f"/{number}" if number else "")
            run.graph.sources[place] = each
            run.graph.uses(f"{node}/{table}", [place])
        build = functools.partial(_read_all, run, f"{node}/{table}", table, arrived)
        frames[table] = LazyFrame(run, f"{node}/{table}", "source", what, (), build, completeness)
    return frames


def _read_all(run: Run, node: str, table: str, arrived: Mapping[str, Marker]) -> DataFrame:
    lacking = [name for name, marker in arrived.items() if table not in marker.tables]
    if lacking:
        has = ", ".join(arrived[lacking[0]].tables)
        raise InvalidMarker(lacking[0], f"tables {has}", f"{table!r} among them, which {node} stacks")
    frames = {name: _read(run.spark, marker.tables[table], marker.key) for name, marker in arrived.items()}
    return union_by_name(frames) if len(frames) > 1 else next(iter(frames.values()))


def _source_of(table: MarkedTable) -> Source:
    return source(table.format, table.path, version=table.version)


def _read(spark: SparkSession, table: MarkedTable, key: str) -> DataFrame:
    """The key's rows of a table, as its marker pins it."""
    if table.format == "delta":
        frame = sources.read_delta(spark, _source_of(table), int(table.version or 0))
        return frame.where(is_key(table.column, key, table.value or "")) if table.column else frame
    if table.revision is not None:
        frame = key_folder.read(spark, table.path)  # which lists the files: then they are those of the manifest
        replaced = readiness.replaced(table)
        if replaced:
            raise InvalidMarker(table.path, replaced, f"revision {table.revision}, which was waited for")
        return frame
    return sources.read_files(spark, table.path, _source_of(table))
