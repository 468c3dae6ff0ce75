"""How the keys of a pipeline are run: its calendar, how many at once, and the pools that teams share."""
# Read by pydantic at run time, so the modules of models do without `from __future__ import annotations`.

import datetime as dt
from pathlib import Path
from typing import Annotated, Literal

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BeforeValidator, Field, StrictBool, StrictInt, ValidationError, ValidationInfo, field_validator

from spark_flow.errors import ConfigError, InvalidArgument, InvalidName, Problem, UnknownPool
from spark_flow.jobfile.model.base import FilePath, Model, Name, TablePath, Text
from spark_flow.jobfile.model.fields import variable_name
from spark_flow.jobfile.model.problems import from_pydantic, locate, refuse, show
from spark_flow.orchestration.calendar import Calendar, check_date, daily, hourly, listed
from spark_flow.orchestration.concurrent_runner import First
from spark_flow.orchestration.key_plan import Reprocess
from spark_flow.orchestration.leases import QUEUE, TTL, OnBusy
from spark_flow.orchestration.pipeline import Slots
from spark_flow.orchestration.stragglers import FEWEST, Straggler


def _key_text(value: object) -> object:
    """YAML reads a bare 2013-01-03 as a date, and 201301 as a number."""
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value.isoformat()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


KeyText = Annotated[Text, BeforeValidator(_key_text)]
Positive = Annotated[StrictInt, Field(ge=1)]


class StragglerModel(Model):
    """When a run takes so long that it is reported; its keys are those of ``Straggler``.

    Attributes:
        factor: Report a run that takes longer than this many times the median.
        last: The number of runs that the median is taken of.
        notify: The name of an environment variable with Apprise addresses that are notified.
    """

    factor: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 2.0
    last: Annotated[StrictInt, Field(ge=FEWEST)] = 10
    notify: Text | None = None

    @field_validator("notify")
    @classmethod
    def _is_a_variable(cls, value: str | None) -> str | None:
        return None if value is None else variable_name(value)

    @property
    def straggler(self) -> Straggler:
        """As the runners take it."""
        return Straggler(factor=self.factor, last=self.last, notify=self.notify or "")


class RunnerModel(Model):
    """How runners, and each job by itself, treat the runs of a pipeline.

    Attributes:
        calendar: The keys: ``daily`` (2013-01-02), ``hourly`` (2013-01-02T05), or a list. Jobs check their key by it
            too: ``key=2013-1-2`` is refused.
        start_date: The first key.
        end_date: The last key; by default the last period that is over.
        max_active_runs: Concurrent runs of the pipeline, over all processes: by default 5 in the concurrent runner;
            the single runner has 1.
        depends_on_past: ``true``: a key starts after the previous key has succeeded. Or a list of nodes, which run for
            a key only after the previous key has finished all of them. A skipped previous key counts as done.
        after_marker: A dataset: instead of taking a lease, wait until the previous key is marked ready.
        on_busy: When other runs hold the lease: ``wait``; ``queue``: wait if fewer than ``queue`` are waiting;
            ``exit``: report the key as waiting (exit code 75) and try the next ones.
        queue: The largest number of waiting runs, for ``on_busy: queue``.
        pools: The file of pools that teams share, such as ``conf/pools.yaml``.
        pool: The pool that each run takes slots of.
        slots: The number of slots that a run takes.
        leases: The folder of claims; by default ``<state>/leases``.
        lease_seconds: Seconds after which a stopped process may be taken over.
        reprocess: Which keys that were run before are run again: ``none``, those that ``failed`` or were incomplete,
            or ``all``.
        first: Start with the ``oldest`` or the ``newest`` key.
        launch: ``threads`` of one application, or ``submit`` for one application per key.
        shared_state: More tables that no two runs may write at the same time, in addition to those that are detected.
        straggler: Report a run that takes much longer than the last ones.
    """

    calendar: Literal["daily", "hourly"] | tuple[KeyText, ...] = "daily"
    start_date: KeyText | None = None
    end_date: Annotated[KeyText | None, Field(validate_default=True)] = None
    max_active_runs: Positive | None = None
    depends_on_past: StrictBool | tuple[Text, ...] = False
    after_marker: Name | None = None
    on_busy: OnBusy = "wait"
    queue: Annotated[StrictInt, Field(ge=0)] = QUEUE
    pools: FilePath | None = None
    pool: Name | None = None
    slots: Positive = 1
    leases: TablePath | None = None
    lease_seconds: Annotated[float, Field(ge=1, le=86_400)] = TTL
    reprocess: Reprocess = "failed"
    first: First = "oldest"
    launch: Literal["threads", "submit"] = "threads"
    shared_state: tuple[Text, ...] = ()
    straggler: StragglerModel = StragglerModel()

    @field_validator("calendar")
    @classmethod
    def _a_list_is_one(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        try:
            _calendar(value, None, None)
        except InvalidArgument as error:
            raise refuse(show(value) if value else "an empty list", error.expected) from error
        except InvalidName as error:
            raise refuse(show(error.value), "keys of letters, digits, '.', '_' or '-'") from error
        return value

    @field_validator("start_date")
    @classmethod
    def _is_a_first_key(cls, value: str | None, info: ValidationInfo) -> str | None:
        calendar = info.data.get("calendar")
        if value is not None and isinstance(calendar, str):
            try:
                _calendar(calendar, value, None)
            except InvalidArgument as error:
                raise refuse(error.found, error.expected) from error
        return value

    @field_validator("end_date")
    @classmethod
    def _the_calendar_is_one(cls, value: str | None, info: ValidationInfo) -> str | None:
        if "calendar" in info.data and "start_date" in info.data:
            try:
                _calendar(info.data["calendar"], info.data["start_date"], value)
            except InvalidArgument as error:
                raise refuse(error.found, error.expected) from error
        return value

    @field_validator("depends_on_past")
    @classmethod
    def _the_past_begins_somewhere(cls, value: object, info: ValidationInfo) -> object:
        ranging = isinstance(info.data.get("calendar"), str)
        if value and ranging and info.data.get("start_date", "") is None:
            raise refuse("depends_on_past without start_date", "the first key, which depends on none")
        return value

    @field_validator("pool")
    @classmethod
    def _a_pool_is_declared(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("pools") is None:
            raise refuse(
                f"pool {value!r} without pools", "pools: the file that declares it", "For example pools: pools.yaml."
            )
        return value

    @property
    def keys_of(self) -> Calendar:
        """The calendar."""
        return _calendar(self.calendar, self.start_date, self.end_date)

    def check_key(self, key: str) -> None:
        """Refuse a key that is not of the calendar's form.

        Where the file declares no calendar, one that looks like a date and is none.

        Raises:
            InvalidArgument: See above.
        """
        if self.model_fields_set & {"calendar", "start_date", "end_date"}:
            self.keys_of.check_form(key)
        else:
            check_date(key)

    def share(self) -> Slots | None:
        """The part of a workload pool that a run takes; ``None`` if it takes none.

        Raises:
            ConfigError: The pools' file is wrong, or does not declare the pool with so many slots.
        """
        if self.pool is None or self.pools is None:
            return None
        declared = load_pools(self.pools)
        sizes = {name: pool.slots for name, pool in declared.pools.items()}
        share = Slots(pool=self.pool, pools=sizes, leases=declared.leases, slots=self.slots)
        try:
            _ = share.limit
        except (InvalidArgument, UnknownPool) as error:
            problem = Problem("runner.pool", f"{self.pool!r} with {self.slots} slot(s)", "", str(error))
            raise ConfigError(self.pools, [problem]) from error
        return share


class PoolModel(Model):
    """A workload pool; ``etl: 3`` is short for ``etl: {slots: 3}``.

    Attributes:
        slots: The number of slots.
    """

    slots: Positive


def _pool(value: object) -> object:
    return {"slots": value} if isinstance(value, int) and not isinstance(value, bool) else value


class PoolsModel(Model):
    """The file of pools that teams share: it says where slots are claimed, so that all claim them there.

    Attributes:
        leases: The folder in which slots are claimed, the same for all pipelines.
        pools: The pools by name, each with its number of slots.
    """

    leases: TablePath
    pools: dict[Name, Annotated[PoolModel, BeforeValidator(_pool)]] = Field(min_length=1)


def load_pools(path: str) -> PoolsModel:
    """The file of pools.

    Raises:
        ConfigError: It cannot be read, or is none; with all that is wrong.
    """
    try:
        # By OmegaConf, as jobs' files are read: PyYAML alone takes the last of two keys of one name.
        raw = OmegaConf.to_container(OmegaConf.create(Path(path).read_text(encoding="utf-8-sig")), resolve=False)
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        found = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(path, [Problem("file", found, "a YAML file of pools")]) from error
    if not isinstance(raw, dict):
        raise ConfigError(path, [Problem("file", show(raw), "a mapping of leases and pools")])
    try:
        return PoolsModel.model_validate(raw)
    except ValidationError as error:
        details = error.errors(include_url=False)
        known = {1: PoolsModel.key_names(), 3: PoolModel.key_names()}
        found = [one for detail in details for one in from_pydantic(detail, known.get(len(detail["loc"]), ()))]
        raise ConfigError(path, [locate(one, raw) for one in found]) from None


def _calendar(calendar: str | tuple[str, ...], start: str | None, end: str | None) -> Calendar:
    if isinstance(calendar, str):
        return (hourly if calendar == "hourly" else daily)(start, end)
    if start is not None or end is not None:
        raise InvalidArgument("calendar", "start_date or end_date with a list", "the list alone")
    return listed(calendar)
