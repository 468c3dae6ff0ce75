"""Conditions of an exclusive choice: what sends a key down one road.

All but ``by_data`` ask metadata only and launch no Spark job: the key, an argument, a schema. ``by_schema`` of a source
whose columns only Spark can tell is the exception.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from spark_flow.core import fingerprint
from spark_flow.engine.lazy_frame import LazyFrame, held
from spark_flow.errors import InvalidCondition
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
    """Whether a condition holds, and what was found."""

    holds: bool
    found: str


@dataclass(frozen=True, eq=False)
class Condition:
    """A question about a run's key, its arguments or data; made by ``by_parameter``, ``by_date`` and so on.

    Attributes:
        text: The condition in words.
        ask: The answer for a key.
        reads_data: Whether asking launches a Spark job.
        span: The dates that it holds for, first and last (exclusive), where it is one of dates.
        about: What is asked of which data: a node's name, or a hash of a source's settings.
        by_session: The answer for a key, where a session may be needed: it is made only if it is.
    """

    text: str
    ask: Callable[[str], Answer]
    reads_data: bool = False
    span: tuple[dt.date, dt.date] | None = None
    about: str = ""
    by_session: Callable[[str, Callable[[], SparkSession]], Answer] | None = None

    def answer(self, key: str, spark: Callable[[], SparkSession]) -> Answer:
        """The answer for a key, by a run's session where one is needed."""
        return self.ask(key) if self.by_session is None else self.by_session(key, spark)

    @property
    def fingerprint(self) -> str:
        """A hash of the question; not of what the answer depends on."""
        return fingerprint.of((self.text, self.about))


def by_parameter(name: str, value: str, equals: str, *, allowed: Sequence[str]) -> Condition:
    """By an argument of the job.

    >>> by_parameter("output_type", "csv", "delta", allowed=("csv", "delta")).ask("2013-01-02").holds
    False

    Args:
        name: The argument's name.
        value: What was given.
        equals: For which value the condition holds.
        allowed: All values that may be given.

    Raises:
        InvalidCondition: ``value`` or ``equals`` is none of those.
    """
    if isinstance(allowed, str):
        raise InvalidCondition(f"by_parameter {name}", f"allowed {allowed!r}", "a list of values")
    for one in (value, equals):
        if one not in allowed:
            raise InvalidCondition(f"by_parameter {name}", repr(one), f"one of: {', '.join(map(str, allowed))}")
    return Condition(f"{name} = {equals}", lambda _: Answer(value == equals, f"{name} = {value}"))


def by_date(*, since: str = "", before: str = "") -> Condition:
    """By the run's key, a date: ``since`` a day (inclusive), ``before`` a day (exclusive), or a range of both.

    A longer key, as ``2013-01-02-07`` or ``2013-01-02T07``, counts by the date that it begins with.

    Raises:
        InvalidCondition: Neither is given, one is no date, or the range holds no day; when asked: the key is no date.
    """
    if not since and not before:
        raise InvalidCondition("by_date", "neither since nor before", "at least one, as since='2013-01-03'")
    first = _date("by_date since", str(since)) if since else dt.date.min
    last = _date("by_date before", str(before)) if before else dt.date.max
    if first >= last:
        raise InvalidCondition("by_date", f"since {since}, before {before}", "since earlier than before")
    text = " and ".join(part for part in (f"since {since}" * bool(since), f"before {before}" * bool(before)) if part)

    def ask(key: str) -> Answer:
        day, rest = key[:10], key[10:]
        if rest and rest[0] not in "-_.T":
            raise InvalidCondition("by_date: key", repr(key), "a date as 2013-01-03")
        found = _date("by_date: key", day)
        return Answer(first <= found and (found < last or not before), f"key = {key}")

    return Condition(f"key {text}", ask, span=(first, last))


def _date(what: str, text: str) -> dt.date:
    try:
        return dt.datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - fromisoformat takes more, by Python's version
    except ValueError:
        raise InvalidCondition(what, repr(text), "a date as 2013-01-03") from None


def by_share(share: float, *, salt: str = "") -> Condition:
    """By a stable hash of the key: this share of all keys, the same ones on every machine (A/B tests, slow roll-outs).

    Args:
        share: 0 to 1.
        salt: Another one chooses other keys.

    Raises:
        InvalidCondition: The share is no number from 0 to 1.
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise InvalidCondition("by_share", repr(share), "a number from 0 to 1")

    def ask(key: str) -> Answer:
        digest = hashlib.sha256(f"{salt}/{key}".encode()).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        return Answer(place < share, f"key at {place:.4f}")

    return Condition(f"share {share}" + f" salted {salt}" * bool(salt), ask)


def by_schema(
    data: LazyFrame | DataFrame | Source,
    *,
    has: Sequence[str] = (),
    types: Mapping[str, str] | None = None,
    fields: int | None = None,
    min_fields: int | None = None,
) -> Condition:
    """By columns: all of ``has`` are there, those of ``types`` with their types, and there are ``fields`` of them.

    The answer is that of the frame which a read gives. Of a source only metadata is read where it is exact: a declared
    schema, a Delta table's log, the footer of Parquet that Spark wrote. Else Spark tells the columns, with the source's
    own options: of JSON without a schema it reads all of the data for it.

    >>> wide = by_schema(daily, min_fields=3)  # doctest: +SKIP

    Args:
        data: A frame, or a source.
        has: Names of columns.
        types: Types by column, as Spark writes them: ``{"seats": "int"}``.
        fields: The number of columns.
        min_fields: The least number of columns.

    Raises:
        InvalidCondition: Nothing is asked.
    """
    if not has and not types and fields is None and min_fields is None:
        raise InvalidCondition("by_schema", "nothing to ask", "has, types, fields or min_fields")
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
        lacking = [name for name in has if fold(name) not in known]
        other = {name: known.get(fold(name), "absent") for name in wanted}
        wrong = {name: found for name, found in other.items() if found != wanted[name]}
        holds = not lacking and not wrong and fields in (None, len(known)) and len(known) >= (min_fields or 0)
        found = [f"{len(known)} columns", *(f"no {name}" for name in lacking)]
        return Answer(holds, ", ".join([*found, *(f"{name} is {kind}" for name, kind in other.items())]))

    text = ", ".join(part for part in parts if part)
    inferred = isinstance(data, Source) and data.schema is None and data.format in ("json", "csv")
    asked = functools.partial(answer, spark=_session)
    return Condition(text, asked, reads_data=inferred, about=_about(data), by_session=answer)


def _session() -> SparkSession:
    """The session that is there, or Spark's own default: as for a ``Run`` that was given none."""
    from pyspark.sql import SparkSession

    return SparkSession.getActiveSession() or SparkSession.builder.getOrCreate()


def _about(data: LazyFrame | DataFrame | Source) -> str:
    """Which data is asked; not what it holds: a retry after new data keeps its road."""
    return data.fingerprint if isinstance(data, Source) else data.node if isinstance(data, LazyFrame) else ""


def _type(kind: object) -> str:
    """A type as Spark's ``simpleString`` writes it.

    Raises:
        InvalidCondition: It is none.
    """
    text = str(kind.simpleString() if hasattr(kind, "simpleString") else kind).strip().lower()
    text = _SYNONYMS.get(text, text)
    if re.split(r"[(<]", text)[0] not in _TYPES:
        raise InvalidCondition("by_schema: types", repr(kind), f"a type of Spark: {', '.join(sorted(_TYPES))}")
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
    active = SparkSession.getActiveSession()  # none is made to answer from metadata
    return schema, folding(active) if active is not None else str.lower


def by_data(data: LazyFrame | DataFrame, *, where: str = "", at_least: int = 1, within: int = 100_000) -> Condition:
    """By rows: at least so many are there (``at_least=1``: any exists), bounded, never a full scan.

    Args:
        data: A frame.
        where: A SQL condition of the rows that count; by default all.
        at_least: How many must be there. No more than these are taken.
        within: With ``where``, how many rows of each partition are looked at, at most.

    Raises:
        InvalidCondition: A number is below 1; when asked: ``where`` cannot be resolved, a column that is not there.
    """
    data = held(data)
    if not (isinstance(data, LazyFrame) or is_frame(data)):
        raise InvalidCondition("by_data", repr(data), "a frame")
    if not isinstance(at_least, int) or not isinstance(within, int) or at_least < 1 or within < at_least:
        found = f"at_least {at_least}, within {within}"
        raise InvalidCondition("by_data", found, "at_least 1 or more, within no less than at_least")
    text = f"at least {at_least} row(s)" + f" where {where} within {within}" * bool(where)

    def ask(_: str) -> Answer:
        frame = data.frame if isinstance(data, LazyFrame) else data
        count = len(_rows(frame, where, within).take(at_least))
        return Answer(count >= at_least, f"{count}{'+' * (count == at_least)} row(s)")

    return Condition(text, ask, reads_data=True, about=_about(data))


def _rows(frame: DataFrame, where: str, within: int) -> DataFrame:
    """Only as many columns as the condition needs; ``take`` reads partition after partition and stops."""
    from pyspark.errors import AnalysisException
    from pyspark.sql import functions as F

    if not where:
        return frame.select(F.lit(1))
    try:
        return frame.limit(within).where(where).select(F.lit(1))
    except AnalysisException as error:
        found = re.sub(r"\s+", " ", str(error).strip())[:200]
        raise InvalidCondition(f"by_data {where!r}", found, f"columns of: {', '.join(frame.columns)}") from error
