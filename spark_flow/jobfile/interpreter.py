"""A config file's flow on its way through a run: each entry is a pattern's call."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from spark_flow import jobfile as files
from spark_flow.core.arrival_rules import parse
from spark_flow.engine.reading import read
from spark_flow.engine.writing import Scope, write
from spark_flow.errors import NotRecorded
from spark_flow.fan_in import aligned_fan_in, error_table, report_completeness, unaligned_fan_in
from spark_flow.fan_out import (
    by_data,
    by_date,
    by_parameter,
    by_schema,
    by_share,
    exclusive_choice,
    parallel_split,
)
from spark_flow.jobfile.model.fields import texts
from spark_flow.sequence import Step, local_sequencer, publish, step, transaction, trigger, wait_for
from spark_flow.sequence.isolated_sequencer import announce
from spark_flow.sequence.isolated_sequencer.keys import parse_keys
from spark_flow.storage.sinks import sink
from spark_flow.storage.sources import Source, source
from spark_flow.storage.staged import staged
from spark_flow.transforms import join_all, sql, with_completeness

if TYPE_CHECKING:
    from pathlib import Path

    from spark_flow.engine.lazy_frame import LazyFrame
    from spark_flow.engine.run import Run
    from spark_flow.fan_in.unaligned import Fallback
    from spark_flow.fan_out import Condition
    from spark_flow.storage.sink_protocol import Sink

Entry = Callable[["Flow", Any, Scope, "LazyFrame | None"], "LazyFrame | None"]


class Flow:
    """A config file on its way through a run: sources by name, and how to find ``module:function``."""

    def __init__(self, config: files.JobConfig, run: Run, beside: Path | None) -> None:
        self.run = run
        self._config = config
        self._beside = beside
        self.tables: dict[str, LazyFrame] = {}

    @property
    def markers(self) -> str:
        """The folder of markers."""
        return self._config.markers

    def source(self, name: str, branches: Sequence[str] = ()) -> Source:
        """The source that a name in the file stands for, with branches of its own or those of a fan-in."""
        model = self._config.sources[name]
        schema = self.resolve(model.schema_) if model.schema_ and files.is_reference(model.schema_) else model.schema_
        names = branches or model.branch_names()
        options = {"schema": schema, "branches": names, "options": texts(model.options)}
        options |= {"version": model.version, "per_key": bool(model.per_key)}
        return source(model.format, model.path, bad_records=model.bad_records or "fail", **options)  # type: ignore[arg-type]

    def step(self, model: files.StepModel) -> Step:
        """The step that an entry of the file stands for."""
        transform = sql(model.sql) if model.sql is not None else self.resolve(str(model.run))
        named, plain = model.split_with({*self._config.sources, *self.tables})
        frames = {argument: self.frame(name) for argument, name in named.items()}
        settings = {"name": model.name, "restart": model.restart, "version": model.version or ""}
        return step(transform, **settings, **plain, **frames)  # type: ignore[arg-type]

    def frame(self, name: str) -> LazyFrame:
        """The frame that a step's argument names: a source's, or a table's that was handed over."""
        return self.tables[name] if name in self.tables else read(self.run, name, self.source(name))

    def inputs(self, model: files.FanInModel, frame: LazyFrame | None) -> Source | dict[str, Source | LazyFrame]:
        """A fan-in's branches: of one source, or several sources; a join's first is the frame so far."""
        if model.source is not None:
            return self.source(model.source, model.branches or ())
        first = {"frame": frame} if frame is not None and getattr(model, "join", None) else {}
        return {**first, **{name: self.source(name) for name in model.sources}}

    def fallback(self, model: files.FallbackModel | None) -> Fallback | None:
        """What the file says to do when no branch arrived."""
        if model is None:
            return None
        if model.error_table is not None:
            return error_table(model.error_table)
        return self.source(model.source) if model.source is not None else self.resolve(str(model.run))

    def condition(self, model: files.WhenModel | None, frame: LazyFrame) -> Condition | None:
        """What a route of the file asks."""
        if model is None:
            return None
        if model.by_parameter is not None:
            name, parameter = model.by_parameter.name, self._config.parameters[model.by_parameter.name]
            return by_parameter(name, str(parameter.value), model.by_parameter.equals, allowed=parameter.values)
        if model.by_date is not None:
            return by_date(since=model.by_date.since, before=model.by_date.before)
        if model.by_share is not None:
            return by_share(model.by_share.share, salt=model.by_share.salt)
        if model.by_schema is not None:
            asked = model.by_schema
            data = self.source(asked.source) if asked.source else frame
            how = {"has": asked.has, "types": asked.types, "fields": asked.fields, "min_fields": asked.min_fields}
            return by_schema(data, **how)  # type: ignore[arg-type]
        return by_data(frame, **model.by_data.model_dump() if model.by_data else {})

    def trigger(self, model: files.TriggerModel) -> None:
        """Start the job that an entry of the file stands for."""
        to_start, how = model.consumer(self._beside), {"name": model.name or "", "launcher": model.launcher or ""}
        trigger(self.run, to_start, wait=model.wait, allow=model.allow, **how)

    def resolve(self, reference: str) -> Any:
        """What ``module:name`` stands for."""
        return files.resolve(reference, beside=self._beside)


def execute(config: files.JobConfig, run: Run, *, beside: Path | None = None) -> None:
    """Walk a file's flow: what is lazy is declared, what writes is done, once.

    Raises:
        SparkFlowError: As the entries' patterns do.
    """
    try:
        _walk(Flow(config, run, beside), config.flow, run, None)
    except NotRecorded:
        raise  # a backfill that is refused is no news of the key
    except Exception as error:
        for entry in files.walk(config.flow, _not_taken(config, run)):
            if isinstance(entry, files.PublishModel) and entry.on_failure == "tell":
                announce(run, entry.dataset, error, markers=config.markers)
        raise


def _not_taken(config: files.JobConfig, run: Run) -> list[str]:
    """The routes that were not taken, and those of choices that were not made: nobody waits for what they publish."""
    choices = [entry for entry in files.walk(config.flow) if isinstance(entry, files.ExclusiveChoiceModel)]
    routes = [f"{choice.name}/{route}" for choice in choices for route in choice.routes]
    taken = [f"{c.name}/{o.detail['route']}" for c in choices if (o := run.outcome(c.name)) and "route" in o.detail]
    return [route for route in routes if route not in taken]


def _walk(flow: Flow, entries: Sequence[Any], scope: Scope, frame: LazyFrame | None) -> LazyFrame | None:
    for entry in entries:
        frame = ENTRIES[entry.pattern](flow, entry, scope, frame)
    return frame


def _read(flow: Flow, entry: files.ReadModel, scope: Scope, _: LazyFrame | None) -> LazyFrame:
    return read(scope.run, entry.source, flow.source(entry.source))


def _step(flow: Flow, entry: files.StepModel, scope: Scope, frame: LazyFrame | None) -> LazyFrame:
    made = local_sequencer(scope.run, _needed(frame), [flow.step(entry)])
    if entry.restart and scope.run.redoes(made.node) and scope.run.recorded(made.node, made.fingerprint) is None:
        _ = made.frame  # asked for by its name: what follows may be kept, and would not need it
    return made


def _write(_: Flow, entry: files.WriteModel, scope: Scope, frame: LazyFrame | None) -> LazyFrame:
    write(scope, entry.name, _needed(frame), sink_of(entry))
    return _needed(frame)


def _transaction(flow: Flow, entry: files.TransactionModel, scope: Scope, frame: LazyFrame | None) -> LazyFrame | None:
    with transaction(scope.run, entry.name) as within:
        return _walk(flow, entry.flow, within, frame)


def _aligned(flow: Flow, entry: files.AlignedFanInModel, scope: Scope, frame: LazyFrame | None) -> LazyFrame:
    merge = functools.partial(join_all, **entry.join.arguments) if entry.join else None
    return aligned_fan_in(
        scope.run,
        entry.name,
        flow.inputs(entry, frame),
        each=flow.resolve(entry.each) if entry.each else None,
        merge=merge,
        restart=entry.restart,
        max_in_flight=entry.max_in_flight,
        on_failure=entry.on_failure,
        allow_missing_columns=entry.allow_missing_columns,
    ).frame


def _unaligned(flow: Flow, entry: files.UnalignedFanInModel, scope: Scope, frame: LazyFrame | None) -> LazyFrame:
    return unaligned_fan_in(
        scope.run,
        entry.name,
        flow.inputs(entry, frame),
        require=parse(entry.require),
        each=flow.resolve(entry.each) if entry.each else None,
        max_in_flight=entry.max_in_flight,
        on_all_failed=flow.fallback(entry.on_all_failed),
        allow_missing_columns=entry.allow_missing_columns,
    ).frame


def _with_completeness(_: Flow, entry: files.WithCompletenessModel, scope: Scope, frame: LazyFrame | None) -> LazyFrame:
    parts = _needed(frame).completeness
    expected = [f"{part.node}/{name}" for part in parts for name in part.expected]
    arrived = [f"{part.node}/{name}" for part in parts for name in part.arrived]
    flag = step(with_completeness, name=entry.name, expected=expected, arrived=arrived, column=entry.column)
    return local_sequencer(scope.run, _needed(frame), [flag])


def _choice(flow: Flow, entry: files.ExclusiveChoiceModel, scope: Scope, frame: LazyFrame | None) -> LazyFrame | None:
    before = _needed(frame)
    routes = {
        name: (flow.condition(route.when, before), functools.partial(_take, flow, entry, name, scope, before))
        for name, route in entry.routes.items()
    }
    choice = exclusive_choice(scope.run, entry.name, routes, default=entry.default)
    return choice.result if choice.route else before


def _take(flow: Flow, entry: files.ExclusiveChoiceModel, name: str, scope: Scope, frame: LazyFrame) -> LazyFrame | None:
    """Go a route.

    Raises:
        NotRecorded: The choice is to be kept, and what is to be done anew lies on another route.
    """
    others = [one for other, route in entry.routes.items() if other != name for one in route.flow]
    astray = [node for one in others for node in one.nodes() if not scope.run.keeps(node)]
    if astray and scope.run.keeps(entry.name):
        why = f"it took the route {name}, which does not lead to {astray[0]}"
        raise scope.run.failed(entry.name, "choice", NotRecorded(entry.name, why))
    return _walk(flow, entry.routes[name].flow, scope, frame)


def _split(flow: Flow, entry: files.ParallelSplitModel, scope: Scope, frame: LazyFrame | None) -> LazyFrame:
    branches = {
        name: (flow.step(model.step), sink_of(model)) if model.step else sink_of(model)
        for name, model in entry.sinks.items()
    }
    parallel_split(
        scope,
        _needed(frame),
        branches,
        name=entry.name,
        share=entry.share,
        loading_time=entry.loading_time or "",
        max_in_flight=entry.max_in_flight,
        mode=entry.mode,
        spark={name: texts(model.spark) for name, model in entry.sinks.items()},
    )
    return _needed(frame)


def _report(_: Flow, entry: files.ReportCompletenessModel, scope: Scope, frame: LazyFrame | None) -> LazyFrame:
    to = {"table": entry.table, "notify_by": entry.notify or "", "name": entry.name}
    report_completeness(scope.run, entry.dataset, _needed(frame), **to)
    return _needed(frame)


def _wait_for(flow: Flow, entry: files.WaitForModel, scope: Scope, _: LazyFrame | None) -> LazyFrame:
    handover = wait_for(
        scope.run,
        entry.dataset,
        keys=parse_keys(entry.keys_),
        tables=[*([entry.table] if entry.table else []), *entry.also],
        markers=entry.markers or flow.markers,
        roots=entry.roots,
        require=parse(entry.require),
        on_failed=entry.on_failed,
        on_skipped=entry.on_skipped,
        on_partial=entry.on_partial,
        polling=entry.polling,
        name=entry.name or "",
    )
    flow.tables.update({table: handover.table(table) for table in entry.also})
    return handover.table(entry.table) if entry.table else handover.frame


def _publish(flow: Flow, entry: files.PublishModel, scope: Scope, frame: LazyFrame | None) -> LazyFrame | None:
    what = {"tables": entry.tables, "state": entry.state, "reason": entry.reason, "name": entry.name or ""}
    publish(scope.run, entry.dataset, markers=flow.markers, success_file=entry.success_file, **what)  # type: ignore[arg-type]
    return frame


def _trigger(flow: Flow, entry: files.TriggerModel, _: Scope, frame: LazyFrame | None) -> LazyFrame | None:
    flow.trigger(entry)
    return frame


ENTRIES: Mapping[str, Entry] = {
    "read": _read,
    "aligned_fan_in": _aligned,
    "unaligned_fan_in": _unaligned,
    "step": _step,
    "with_completeness": _with_completeness,
    "write": _write,
    "parallel_split": _split,
    "exclusive_choice": _choice,
    "transaction": _transaction,
    "report_completeness": _report,
    "wait_for": _wait_for,
    "publish": _publish,
    "trigger": _trigger,
}
"""What each pattern of a file does; the models that describe them are in ``spark_flow.jobfile``."""


def sink_of(model: files.SinkModel) -> Sink:
    """The sink that a part of the file describes."""
    public = sink_at(model, model.path)
    return staged(public, sink_at(model, model.staging)) if model.staging else public


def sink_at(model: files.SinkModel, path: str) -> Sink:
    """The same at another place."""
    return sink(model.format, path, **model.settings)


def _needed(frame: LazyFrame | None) -> LazyFrame:
    if frame is None:
        raise ValueError("a flow starts with a read; the config's checks refuse others")
    return frame
