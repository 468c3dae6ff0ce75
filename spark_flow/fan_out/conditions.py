"""Conditions of an exclusive choice: they decide which route a key takes.

All except ``by_data`` use only metadata (the key, an argument, a schema) and start no Spark job. The exception is
``by_schema`` on a source whose schema Spark has to infer.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from spark_flow.core import fingerprint
from spark_flow.core.names import whole_predicate
from spark_flow.engine.lazy_frame import LazyFrame, held
from spark_flow.errors import InvalidCondition
from spark_flow.storage.reading import analysed
from spark_flow.storage.sources import Source, schema_of
from spark_flow.transforms.columns import folding, is_frame, unique_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType


_NUMBERS = {"tinyint", "smallint", "int", "bigint", "float", "double", "decimal"}
_TYPES = _NUMBERS | {"string", "char", "varchar", "boolean", "binary", "date", "timestamp", "timestamp_ntz"}
_TYPES |= {"interval", "array", "map", "struct", "variant", "void"}
_SYNONYMS = {"byte": "tinyint", "short": "smallint", "integer": "int", "long": "bigint", "bool": "boolean"}
_SYNONYMS |= {"real": "float", "text": "string", "datetime": "timestamp"}


@dataclass(frozen=True)
class Answer:
    """Whether a condition holds, and the value that was found."""

    holds: bool
    found: str


@dataclass(frozen=True, eq=False)
class Condition:
    """A test of a run's key, arguments or data; create one with ``by_parameter``, ``by_date`` and so on.

    Attributes:
        text: A description of the condition.
        ask: Evaluates the condition for a key.
        reads_data: Whether evaluating it starts a Spark job.
        span: For a date condition, the dates for which it holds: first, and last (exclusive).
        about: The data that is tested: a node's name, or a hash of a source's settings.
        by_session: Evaluates the condition for a key when a session may be needed; the session is created on demand.
    """

    text: str
    ask: Callable[[str], Answer]
    reads_data: bool = False
    span: tuple[dt.date, dt.date] | None = None
    about: str = ""
    by_session: Callable[[str, Callable[[], SparkSession]], Answer] | None = None

    def answer(self, key: str, spark: Callable[[], SparkSession]) -> Answer:
        """Evaluate the condition for a key; ``spark`` is called only if a session is needed."""
        return self.ask(key) if self.by_session is None else self.by_session(key, spark)

    @property
    def fingerprint(self) -> str:
        """A hash of the condition itself, not of the data that it tests."""
        return fingerprint.of((self.text, self.about))


def by_parameter(name: str, value: str, equals: str, *, allowed: Sequence[str]) -> Condition:
    """Test an argument of the job.

    >>> by_parameter("output_type", "csv", "delta", allowed=("csv", "delta")).ask("2013-01-02").holds
    False

    Args:
        name: The argument's name.
        value: The argument's actual value.
        equals: The value for which the condition holds.
        allowed: All allowed values.

    Raises:
        InvalidCondition: ``value`` or ``equals`` is not one of ``allowed``.
    """
    if isinstance(allowed, str):
        raise InvalidCondition(f"by_parameter {name}", f"allowed {allowed!r}", "a list of values")
    for one in (value, equals):
        if one not in allowed:
            raise InvalidCondition(f"by_parameter {name}", repr(one), f"one of: {', '.join(map(str, allowed))}")
    return Condition(f"{name} = {equals}", lambda _: Answer(value == equals, f"{name} = {value}"))


def by_date(*, since: str = "", before: str = "") -> Condition:
    """Test the date in the run's key: ``since`` a day (inclusive), ``before`` a day (exclusive), or both.

    A longer key, for example ``2013-01-02-07`` or ``2013-01-02T07``, is tested by the date that it starts with.

    Raises:
        InvalidCondition: Neither is given, one is not a date, or the range is empty. When evaluated: the key is not a
            date.
    """
    if not since and not before:
        raise InvalidCondition("by_date", "neither since nor before", "at least one, for example since='2013-01-03'")
    first = _date("by_date since", str(since)) if since else dt.date.min
    last = _date("by_date before", str(before)) if before else dt.date.max
    if first >= last:
        raise InvalidCondition("by_date", f"since {since}, before {before}", "since earlier than before")
    text = " and ".join(part for part in (f"since {since}" * bool(since), f"before {before}" * bool(before)) if part)

    def ask(key: str) -> Answer:
        day, rest = key[:10], key[10:]
        if rest and rest[0] not in "-_.T":
            raise InvalidCondition("by_date: key", repr(key), "a date like 2013-01-03")
        found = _date("by_date: key", day)
        return Answer(first <= found and (found < last or not before), f"key = {key}")

    return Condition(f"key {text}", ask, span=(first, last))


def _date(what: str, text: str) -> dt.date:
    try:
        return dt.datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - fromisoformat takes more, by Python's version
    except ValueError:
        raise InvalidCondition(what, repr(text), "a date like 2013-01-03") from None


def by_share(share: float, *, salt: str = "") -> Condition:
    """Select a share of all keys by a stable hash, the same keys on every machine (A/B tests, gradual roll-outs).

    Args:
        share: 0 to 1.
        salt: Change it to select other keys.

    Raises:
        InvalidCondition: The share is not a number from 0 to 1.
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise InvalidCondition("by_share", repr(share), "a number from 0 to 1")

    def ask(key: str) -> Answer:
        digest = hashlib.sha256(f"{salt}/{key}".encode()).digest()
        position = int.from_bytes(digest[:8], "big") / 2**64
        return Answer(position < share, f"key at {position:.4f}")

    return Condition(f"share {share}" + f" salted {salt}" * bool(salt), ask)


def by_schema(
    data: LazyFrame | DataFrame | Source,
    *,
    has: Sequence[str] = (),
    types: Mapping[str, str] | None = None,
    fields: int | None = None,
    min_fields: int | None = None,
) -> Condition:
    """Test the columns: all of ``has`` exist, those in ``types`` have these types, and their number is ``fields``.

    The result is the same as for the frame that a read returns. For a source, metadata is used where it is exact: a
    declared schema, a Delta table's log, or the footer of Parquet written by Spark. Otherwise Spark determines the
    columns with the source's options; for JSON without a schema it reads all of the data.

    >>> wide = by_schema(daily, min_fields=3)  # doctest: +SKIP

    Args:
        data: A frame, or a source.
        has: Required columns.
        types: Types by column, in Spark's notation: ``{"seats": "int"}``.
        fields: The exact number of columns.
        min_fields: The minimum number of columns.

    Raises:
        InvalidCondition: None of the four is given, or one is invalid.
    """
    if not has and not types and fields is None and min_fields is None:
        raise InvalidCondition("by_schema", "no criteria", "at least one of has, types, fields, min_fields")
    for what, number in (("fields", fields), ("min_fields", min_fields)):
        if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
            raise InvalidCondition(f"by_schema: {what}", repr(number), "a number of columns, 1 or more")
    data = held(data)
    if not (isinstance(data, Source | LazyFrame) or is_frame(data)):
        raise InvalidCondition("by_schema", repr(data), "a frame or a source")
    has = [has] if isinstance(has, str) else list(has)
    wanted = {name: _type(kind) for name, kind in (types or {}).items()}
    parts = [f"has {', '.join(has)}" * bool(has), *(f"{name} is {kind}" for name, kind in wanted.items())]
    parts += [f"{fields} columns"] if fields is not None else []
    parts += [f"at least {min_fields} columns"] if min_fields is not None else []

    def answer(_: str, spark: Callable[[], SparkSession]) -> Answer:
        schema, fold = _schema(data, spark)
        unique_columns("by_schema", schema.names, fold)
        known = {fold(field.name): field.dataType.simpleString() for field in schema.fields}
        missing = [name for name in has if fold(name) not in known]
        other = {name: known.get(fold(name), "absent") for name in wanted}
        wrong = {name: found for name, found in other.items() if found != wanted[name]}
        holds = not missing and not wrong and fields in (None, len(known)) and len(known) >= (min_fields or 0)
        found = [f"{len(known)} columns", *(f"no {name}" for name in missing)]
        return Answer(holds, ", ".join([*found, *(f"{name} is {kind}" for name, kind in other.items())]))

    text = ", ".join(part for part in parts if part)
    inferred = isinstance(data, Source) and data.schema is None and data.format in ("json", "csv")
    asked = functools.partial(answer, spark=_session)
    return Condition(text, asked, reads_data=inferred, about=_about(data), by_session=answer)


def _session() -> SparkSession:
    """Return the active session, or create Spark's default one, as a ``Run`` without a session does."""
    from pyspark.sql import SparkSession

    return SparkSession.getActiveSession() or SparkSession.builder.getOrCreate()


def _about(data: LazyFrame | DataFrame | Source) -> str:
    """Identify the tested data, not its content: a retry after new data keeps its route."""
    return data.fingerprint if isinstance(data, Source) else data.node if isinstance(data, LazyFrame) else ""


def _type(kind: object) -> str:
    """Return a type in the notation of Spark's ``simpleString``.

    Raises:
        InvalidCondition: It is not a type.
    """
    text = str(kind.simpleString() if hasattr(kind, "simpleString") else kind).strip().lower()
    text = _SYNONYMS.get(text, text)
    if re.split(r"[(<]", text)[0] not in _TYPES:
        raise InvalidCondition("by_schema: types", repr(kind), f"a Spark type: {', '.join(sorted(_TYPES))}")
    return text


def _schema(
    data: LazyFrame | DataFrame | Source, spark: Callable[[], SparkSession]
) -> tuple[StructType, Callable[[str], str]]:
    if not isinstance(data, Source):
        frame = data.frame if isinstance(data, LazyFrame) else data
        return frame.schema, folding(frame.sparkSession)
    from pyspark.sql import SparkSession

    schema = schema_of(data)
    if schema is None:
        schema = cast("StructType", schema_of(data, spark))
    active = SparkSession.getActiveSession()  # metadata alone needs no session
    return schema, folding(active) if active is not None else str.lower


def by_data(data: LazyFrame | DataFrame, *, where: str = "", at_least: int = 1, within: int = 100_000) -> Condition:
    """Test whether at least ``at_least`` rows exist, with a limited read and never a full scan.

    Args:
        data: A frame.
        where: A SQL condition on the rows to count; by default all rows count.
        at_least: The required number of rows. No more are read than needed.
        within: With ``where``, the maximum number of rows that are tested; as many may be read per partition.

    Raises:
        InvalidCondition: A number is below 1. When evaluated: ``where`` cannot be resolved.
    """
    data = held(data)
    if not (isinstance(data, LazyFrame) or is_frame(data)):
        raise InvalidCondition("by_data", repr(data), "a frame")
    if not isinstance(at_least, int) or not isinstance(within, int) or at_least < 1 or within < at_least:
        found = f"at_least {at_least}, within {within}"
        raise InvalidCondition("by_data", found, "1 <= at_least <= within")
    text = f"at least {at_least} row(s)" + f" where {where} within {within}" * bool(where)

    def ask(_: str) -> Answer:
        frame = data.frame if isinstance(data, LazyFrame) else data
        count = len(_rows(frame, where, within).take(at_least))
        return Answer(count >= at_least, f"{count}{'+' * (count == at_least)} row(s)")

    return Condition(text, ask, reads_data=True, about=_about(data))


def _rows(frame: DataFrame, where: str, within: int) -> DataFrame:
    """Select no more columns than needed; ``take`` reads partition after partition and stops early."""
    from pyspark.errors import AnalysisException
    from pyspark.sql import functions as F

    if not where:
        return frame.select(F.lit(1))
    try:
        return analysed(frame.limit(within).where(whole_predicate(where)).select(F.lit(1)))
    except AnalysisException as error:
        found = re.sub(r"\s+", " ", str(error).strip())[:200]
        raise InvalidCondition(f"by_data {where!r}", found, f"only columns of: {', '.join(frame.columns)}") from error
