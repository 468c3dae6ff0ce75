"""Readiness markers in Airflow: wait for them, and announce them as events of assets."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, BaseOperator, BaseSensorOperator, conf
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, AirflowSkipException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from spark_flow.core.arrival_rules import parse
from spark_flow.errors import SparkFlowError, UpstreamSkipped, describe
from spark_flow.sequence.isolated_sequencer.keys import parse_keys
from spark_flow.sequence.isolated_sequencer.polling import OnFailed, OnPartial, OnSkipped, Policy, Watch
from spark_flow.storage import files, markers
from spark_flow_airflow.operators import RUN_KEY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from airflow.sdk import Context

EVENTS = 1000  # of an asset, that are searched for the last one of a key


def marker_asset(dataset: str, folder: str) -> Asset:
    """Return the asset that stands for a dataset's markers; its name is their folder, as two flows may have one name.

    Args:
        dataset: The dataset.
        folder: The folder of markers.
    """
    path = files.absolute(folder)
    uri = path if files.is_uri(path) else f"file://{path}"
    return Asset(f"{uri}/{dataset}", group="spark-flow")


def _watch(node: str, paths: Mapping[str, str], roots: Sequence[str], policy: Mapping[str, Any]) -> Watch:
    return Watch(
        node=node, paths=paths, roots=roots, tables=(), policy=Policy(**policy), waiting=dict.fromkeys(paths, "")
    )


class MarkerTrigger(BaseTrigger):
    """Looks at markers until nothing is left to wait for; in the triggerer, so that no worker is held.

    Args:
        paths: The marker files by ``dataset/key``.
        roots: The folders that may hold the tables.
        policy: The values of ``Policy``.
        interval: Seconds between two looks.
    """

    def __init__(
        self, paths: Mapping[str, str], roots: Sequence[str], policy: Mapping[str, Any], interval: float
    ) -> None:
        super().__init__()
        self.paths = dict(paths)
        self.roots = list(roots)
        self.policy = dict(policy)
        self.interval = interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and its arguments."""
        names = ("paths", "roots", "policy", "interval")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until all markers are there, or one says that there is nothing to wait for."""
        watch = _watch("", self.paths, self.roots, self.policy)
        try:
            while not await asyncio.to_thread(watch.look):  # noqa: ASYNC110 - files have no events
                await asyncio.sleep(self.interval)
        except UpstreamSkipped as error:
            yield TriggerEvent({"state": "skipped", "reason": str(error)})
        except SparkFlowError as error:
            yield TriggerEvent({"state": "failed", "reason": str(error)})
        else:
            yield TriggerEvent({"state": "ready", "markers": {name: str(one) for name, one in watch.arrived.items()}})


class MarkerSensor(BaseSensorOperator):
    """Waits for the markers of datasets, as ``wait_for`` in a job's file does, without Spark.

    Of a failed provider it fails without a retry, of a skipped key it is skipped, as ``on_failed`` and ``on_skipped``
    say. When ``timeout`` has passed, it succeeds if the rule is met by what has arrived.

    >>> MarkerSensor(task_id="wait", datasets=["daily_flights"], folder="s3://lake/markers")
    <Task(MarkerSensor): wait>

    Args:
        datasets: The datasets.
        folder: The folder of markers.
        key: The key of the run.
        keys: The provider's keys for it: ``same``, ``hours_of_day(05..23)``, ``last_days(7)``.
        require: How many of them must be ready: ``all_succeeded``, ``any_succeeded``, ``at_least(0.5)``.
        table_roots: The folders that may hold the tables; by default the parent of ``folder``.
        on_failed: ``fail``, ``wait`` or ``ignore``.
        on_skipped: ``skip``, ``fail``, ``wait`` or ``ignore``.
        on_partial: ``pass_on``, ``take``, ``refuse`` or ``wait``.
        deferrable: Look in the triggerer; by default as Airflow's configuration says.
        kwargs: As ``BaseSensorOperator`` takes them: ``poke_interval``, ``timeout``, ``mode``.
    """

    template_fields: Sequence[str] = ("datasets", "folder", "key", "keys", "table_roots")
    ui_color = "#d3f0d9"

    def __init__(
        self,
        *,
        datasets: Sequence[str],
        folder: str,
        key: str = RUN_KEY,
        keys: str = "same",
        require: str = "all_succeeded",
        table_roots: Sequence[str] = (),
        on_failed: OnFailed = "fail",
        on_skipped: OnSkipped = "skip",
        on_partial: OnPartial = "pass_on",
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.datasets = list(datasets)
        self.folder = folder
        self.key = key
        self.keys = keys
        self.require = require
        self.table_roots = list(table_roots)
        self.policy = asdict(
            Policy(on_failed=on_failed, on_skipped=on_skipped, on_partial=on_partial).check("MarkerSensor")
        )
        by_default = conf.getboolean("operators", "default_deferrable", fallback=False)
        self.deferrable = by_default if deferrable is None else deferrable

    def execute(self, context: Context) -> None:
        """Wait, in the triggerer if it is deferrable."""
        try:
            if not self.deferrable:
                super().execute(context)
            elif not self._look():
                trigger = MarkerTrigger(self._paths(), self._roots(), self.policy, self.poke_interval)
                self.defer(trigger=trigger, method_name="resume", timeout=dt.timedelta(seconds=self.timeout))
        except AirflowSensorTimeout as error:
            self._given_up(error)

    def poke(self, context: Context) -> bool:  # noqa: ARG002
        """Look once."""
        return self._look()

    def resume(self, context: Context, event: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Take what the trigger found."""
        if event["state"] == "skipped":
            raise AirflowSkipException(event["reason"])
        if event["state"] == "failed":
            raise AirflowFailException(event["reason"])
        for words in event["markers"].values():
            self.log.info("%s", words)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume; a trigger that timed out is looked at for the rule."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSensorTimeout as error:
            return self._given_up(error)

    def _given_up(self, error: AirflowSensorTimeout) -> None:
        watch = _watch(self.task_id, self._paths(), self._roots(), self.policy)
        watch.look()
        arrived, needed = len(watch.arrived), parse(self.require).needed(len(watch.paths))
        missing = "; ".join(f"{name}: {words}" for name, words in watch.waiting.items())
        if arrived < needed:
            raise AirflowSensorTimeout(
                f"{arrived} of {len(watch.paths)}, expected {self.require}. {missing}"
            ) from error
        self.log.warning("%s of %s are there, which %s allows. %s", arrived, len(watch.paths), self.require, missing)

    def _look(self) -> bool:
        watch = _watch(self.task_id, self._paths(), self._roots(), self.policy)
        try:
            done = watch.look()
        except UpstreamSkipped as error:
            raise AirflowSkipException(str(error)) from error
        except SparkFlowError as error:
            raise AirflowFailException(str(error)) from error
        for name, words in watch.waiting.items():
            self.log.info("%s: %s", name, words)
        return done

    def _paths(self) -> dict[str, str]:
        keys = parse_keys(self.keys)(self.key)
        named = [(dataset, key) for dataset in self.datasets for key in keys]
        return {f"{dataset}/{key}": markers.path_of(self.folder, dataset, key) for dataset, key in named}

    def _roots(self) -> list[str]:
        return self.table_roots or [files.absolute(self.folder).rpartition("/")[0]]


class PublishedOperator(BaseOperator):
    """Announces a dataset's marker as an event of its asset, with the key as the partition.

    It is skipped if the last event of the key says the same: a task that is repeated, and a job that only reused,
    announce nothing. The event's ``extra`` has ``{marker, key, state, generation, revision, content}``.

    Args:
        dataset: The dataset.
        folder: The folder of markers.
        key: The key.
        routes: The routes that it is published in, as ``choice/route``: it is skipped if one was not taken.
        kwargs: As ``BaseOperator`` takes them.
    """

    template_fields: Sequence[str] = ("key",)
    ui_color = "#d3f0d9"

    def __init__(
        self, *, dataset: str, folder: str, key: str = RUN_KEY, routes: Sequence[str] = (), **kwargs: Any
    ) -> None:
        self.asset = marker_asset(dataset, folder)
        super().__init__(**kwargs, inlets=[self.asset], outlets=[self.asset])
        self.dataset = dataset
        self.folder = folder
        self.key = key
        self.routes = list(routes)

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the marker, and announce it if it is new."""
        self._check_routes(context)
        path = markers.path_of(self.folder, self.dataset, self.key)
        try:
            marker = markers.read(path)
        except FileNotFoundError as error:
            raise AirflowFailException(f"{path}: found no marker, expected the one that the job publishes") from error
        except SparkFlowError as error:
            raise AirflowFailException(describe(error)) from error
        extra = {
            "marker": path,
            "key": marker.key,
            "state": marker.state,
            "generation": marker.generation,
            "revision": marker.revision,
            "content": marker.content,
        }
        if extra == self._announced(context, marker.key):
            raise AirflowSkipException(f"{marker}: announced before")
        events: Any = context["outlet_events"]
        events[self.asset].extra = extra
        events[self.asset].add_partitions(marker.key)
        self.log.info("%s", marker)
        return extra

    def _check_routes(self, context: Context) -> None:
        if not self.routes:
            return
        ti: Any = context["ti"]
        taken: dict[str, str] = {}
        for one in sorted(self.get_flat_relative_ids(upstream=True)):
            taken |= (ti.xcom_pull(task_ids=one) or {}).get("routes", {})
        for choice, _, route in (name.rpartition("/") for name in self.routes):
            if taken.get(choice, route) != route:
                raise AirflowSkipException(f"{choice} took the route {taken[choice]}")

    def _announced(self, context: Context, key: str) -> Mapping[str, Any] | None:
        """What the last event of the key said."""
        past: Any = context["inlet_events"]
        latest = past[self.asset].ascending(ascending=False).limit(EVENTS)
        return next((dict(event.extra) for event in latest if event.extra.get("key") == key), None)
