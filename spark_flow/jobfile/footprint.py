"""What the run of a config file would write and read, without a session: all routes of its choices are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from spark_flow import jobfile as files
from spark_flow.jobfile.interpreter import sink_of
from spark_flow.orchestration.shared_state import Footprint, Read, Write
from spark_flow.sequence.isolated_sequencer.keys import keys_of, parse_keys
from spark_flow.storage import markers
from spark_flow.storage.files import absolute
from spark_flow.storage.sink_protocol import ALL, replaces
from spark_flow.storage.sources import source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Touched: TypeAlias = "Iterator[Write | Read]"


def footprint(config: files.JobConfig) -> Footprint:
    """What the file's run of its key would write and read.

    Not known is what a function of one's own reads by itself, and what jobs do that the file triggers. A Delta source
    whose version is given is no read: whatever is written meanwhile, it stays as it is.

    Raises:
        InvalidArgument: A ``wait_for`` maps days, and the key is none.
        UnknownFormat: A sink's format is not installed.
    """
    touched = list(dict.fromkeys(_flow(config, config.flow, "")))
    writes = tuple(one for one in touched if isinstance(one, Write))
    return Footprint(config.key, writes, tuple(one for one in touched if isinstance(one, Read)))


def _flow(config: files.JobConfig, entries: Sequence[files.FlowModel], above: str) -> Touched:
    for entry in entries:
        yield from TOUCHED[entry.pattern](config, entry, above)


def _reads(config: files.JobConfig, name: str, node: str, branches: Sequence[str] = ()) -> Touched:
    """A node's reads of a source, those of all its branches."""
    model = config.sources[name]
    if model.version is None:
        found = source(model.format, model.path, branches=branches or model.branch_names())
        yield from (Read(node, path) for path in found.paths)


def _nothing(_: files.JobConfig, __: files.FlowModel, ___: str) -> Touched:
    yield from ()


def _read(config: files.JobConfig, entry: files.ReadModel, _: str) -> Touched:
    return _reads(config, entry.source, entry.source)


def _step(config: files.JobConfig, entry: files.StepModel, _: str) -> Touched:
    named, _plain = entry.split_with(config.sources)
    for name in named.values():
        yield from _reads(config, name, name)


def _fan_in(config: files.JobConfig, entry: files.FanInModel, _: str) -> Touched:
    if entry.source is not None:
        yield from _reads(config, entry.source, entry.name, entry.branches or ())
    for name in entry.reads():  # the last good copy among them
        yield from _reads(config, name, entry.name)
    fallback = entry.on_all_failed if isinstance(entry, files.UnalignedFanInModel) else None
    if fallback is not None and fallback.error_table is not None:
        yield Write(f"{entry.name}/fallback", absolute(fallback.error_table), _of_key(config))


def _write(config: files.JobConfig, entry: files.WriteModel, above: str) -> Touched:
    return _sink(config, above + entry.name, entry)


def _split(config: files.JobConfig, entry: files.ParallelSplitModel, above: str) -> Touched:
    for name, model in entry.sinks.items():
        yield from _sink(config, above + name, model)
        if model.step is not None:
            yield from _step(config, model.step, above)


def _sink(config: files.JobConfig, node: str, model: files.SinkModel) -> Touched:
    """A sink's places, that of its staging among them."""
    for path, rows in replaces(sink_of(model), config.key).items():
        yield Write(node, absolute(path), rows)


def _choice(config: files.JobConfig, entry: files.ExclusiveChoiceModel, above: str) -> Touched:
    for route in entry.routes.values():
        asked = route.when.by_schema if route.when is not None else None
        if asked is not None and asked.source is not None:
            yield from _reads(config, asked.source, entry.name)
        yield from _flow(config, route.flow, above)


def _transaction(config: files.JobConfig, entry: files.TransactionModel, above: str) -> Touched:
    return _flow(config, entry.flow, f"{above}{entry.name}/")


def _report(config: files.JobConfig, entry: files.ReportCompletenessModel, _: str) -> Touched:
    yield Write(entry.name, absolute(entry.table), _of_key(config))


def _of_key(config: files.JobConfig) -> str:
    """The rows of a table of our own that a key's run replaces."""
    return f"key = '{config.key}'"


def _wait_for(config: files.JobConfig, entry: files.WaitForModel, _: str) -> Touched:
    """The markers: what they pin was published before, by whoever writes them."""
    keys = keys_of(parse_keys(entry.keys_), config.key)
    places = [(dataset, key) for dataset in entry.dataset for key in keys]
    for dataset, key in places:
        yield Read(entry.nodes()[0], markers.path_of(entry.markers or config.markers, dataset, key))


def _publish(config: files.JobConfig, entry: files.PublishModel, _: str) -> Touched:
    yield Write(entry.nodes()[0], markers.path_of(config.markers, entry.dataset, config.key), ALL)


TOUCHED: Mapping[str, Callable[[files.JobConfig, Any, str], Touched]] = {
    "read": _read,
    "aligned_fan_in": _fan_in,
    "unaligned_fan_in": _fan_in,
    "step": _step,
    "with_completeness": _nothing,
    "write": _write,
    "parallel_split": _split,
    "exclusive_choice": _choice,
    "transaction": _transaction,
    "report_completeness": _report,
    "wait_for": _wait_for,
    "publish": _publish,
    "trigger": _nothing,  # a job of its own, with a footprint of its own
}
"""What each pattern of a file writes and reads."""
