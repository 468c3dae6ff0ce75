"""Flights from New York, 2013: schemas and transforms; in YAML `flights:SCHEMA`, `flights:clean` and so on.

The main job applies `clean`, `enrich` and `daily` in this order. All transforms are plain functions on DataFrames, use
only column expressions, and return the same rows on every run. `data/README.md` describes the data's origin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, IntegerType, StringType, StructField, StructType, TimestampType

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

ON_TIME_MINUTES = 15

SCHEMA = StructType(
    [
        StructField("year", IntegerType(), nullable=False),
        StructField("month", IntegerType(), nullable=False),
        StructField("day", IntegerType(), nullable=False),
        StructField("dep_time", IntegerType()),
        StructField("sched_dep_time", IntegerType(), nullable=False),
        StructField("dep_delay", IntegerType()),
        StructField("arr_time", IntegerType()),
        StructField("sched_arr_time", IntegerType()),
        StructField("arr_delay", IntegerType()),
        StructField("carrier", StringType(), nullable=False),
        StructField("flight", IntegerType(), nullable=False),
        StructField("tailnum", StringType()),
        StructField("origin", StringType(), nullable=False),
        StructField("dest", StringType(), nullable=False),
        StructField("air_time", IntegerType()),
        StructField("distance", IntegerType(), nullable=False),
        StructField("hour", IntegerType(), nullable=False),
        StructField("minute", IntegerType(), nullable=False),
        StructField("time_hour", TimestampType(), nullable=False),
    ],
)
"""Flights as in the source files: local times as HHMM, delays and `air_time` in minutes, `distance` in miles,
`time_hour` the scheduled hour as an instant. A cancelled flight has no `dep_time`."""

WEATHER_SCHEMA = StructType(
    [
        StructField("origin", StringType(), nullable=False),
        StructField("year", IntegerType()),
        StructField("month", IntegerType()),
        StructField("day", IntegerType()),
        StructField("hour", IntegerType()),
        StructField("temp", DoubleType()),
        StructField("dewp", DoubleType()),
        StructField("humid", DoubleType()),
        StructField("wind_dir", IntegerType()),
        StructField("wind_speed", DoubleType()),
        StructField("wind_gust", DoubleType()),
        StructField("precip", DoubleType()),
        StructField("pressure", DoubleType()),
        StructField("visib", DoubleType()),
        StructField("time_hour", TimestampType(), nullable=False),
    ],
)
"""Hourly weather per airport: Fahrenheit, percent, degrees, miles per hour, inches, millibars, miles."""

PLANES_SCHEMA = StructType(
    [
        StructField("tailnum", StringType(), nullable=False),
        StructField("year", IntegerType()),
        StructField("type", StringType()),
        StructField("manufacturer", StringType()),
        StructField("model", StringType()),
        StructField("engines", IntegerType()),
        StructField("seats", IntegerType()),
        StructField("speed", IntegerType()),
        StructField("engine", StringType()),
    ],
)
"""Planes by tail number; `year` of manufacture, `speed` in miles per hour."""

AIRLINES_SCHEMA = StructType(
    [
        StructField("carrier", StringType(), nullable=False),
        StructField("name", StringType()),
    ],
)
"""Airlines by their two-letter carrier code."""


def clean(frame: DataFrame) -> DataFrame:
    """Select the flights that have a carrier and an origin, and add their date and whether they were cancelled.

    Carrier and origin are trimmed and converted to upper case; records where either is missing or blank are dropped.
    Nothing is shuffled, and duplicate records are not removed.

    Args:
        frame: Records of `SCHEMA`; other columns are ignored.

    Returns:
        `date` (date, local), `carrier`, `flight` (int), `tailnum`, `origin`, `dest`, `time_hour`
        (timestamp), `sched_dep_time` (int, local HHMM), `dep_delay`, `arr_delay`, `air_time` (int,
        minutes), `distance` (int, miles), `cancelled` (boolean: no departure time).
    """
    carrier, origin = (F.upper(F.trim(name)) for name in ("carrier", "origin"))
    return frame.where((carrier != "") & (origin != "")).select(
        F.make_date("year", "month", "day").alias("date"),
        carrier.alias("carrier"),
        "flight",
        "tailnum",
        origin.alias("origin"),
        "dest",
        "time_hour",
        "sched_dep_time",
        "dep_delay",
        "arr_delay",
        "air_time",
        "distance",
        F.col("dep_time").isNull().alias("cancelled"),
    )


def enrich(frame: DataFrame, *, weather: DataFrame, planes: DataFrame, airlines: DataFrame) -> DataFrame:
    """Add weather, plane and airline columns to each flight; the number of rows does not change.

    A flight without a match gets nulls. If several reference rows have the same key, the greatest is used (compared
    column by column), so that no flight is duplicated and the result is the same on every run. Reference tables are
    broadcast: the largest, a year's weather, has 26 thousand rows.

    Args:
        frame: The rows of `clean`.
        weather: Rows of `WEATHER_SCHEMA`, joined on `origin` and `time_hour`.
        planes: Rows of `PLANES_SCHEMA`, joined on `tailnum`.
        airlines: Rows of `AIRLINES_SCHEMA`, joined on `carrier`.

    Returns:
        The columns of `frame`, then `weather_temp` (double, Fahrenheit), `weather_wind_speed` (double,
        miles per hour), `weather_precip` (double, inches), `weather_visib` (double, miles), `manufacturer`,
        `model`, `seats` (int), `plane_year` (int), `airline`.
    """
    observed = {f"weather_{name}": F.col(name) for name in ("temp", "wind_speed", "precip", "visib")}
    built = {name: F.col(name) for name in ("manufacturer", "model", "seats")} | {"plane_year": F.col("year")}
    return (
        frame.join(_one_per_key(weather, ["origin", "time_hour"], observed), ["origin", "time_hour"], "left")
        .join(_one_per_key(planes, ["tailnum"], built), ["tailnum"], "left")
        .join(_one_per_key(airlines, ["carrier"], {"airline": F.col("name")}), ["carrier"], "left")
        .select(*frame.columns, *observed, *built, "airline")
    )


def daily(frame: DataFrame) -> DataFrame:
    """Compute punctuality by date, carrier and origin.

    A flight is *on time* if it left at most 15 minutes (`ON_TIME_MINUTES`) after its scheduled time. Delays are
    departure delays; an early departure is negative. Cancelled flights count only in `flights` and `cancelled`, so a
    group in which all flights were cancelled has nulls in the last three columns.

    Args:
        frame: The rows of `enrich`.

    Returns:
        `date` (date), `carrier`, `airline`, `origin`, `flights` (long), `cancelled` (long),
        `mean_dep_delay` (double, minutes, 2 decimals), `p90_dep_delay` (double, minutes, 2 decimals; the
        exact percentile, interpolated), `on_time_share` (double, 0 to 1, 4 decimals; on-time flights among
        those that left).
    """
    delay = F.when(~F.col("cancelled"), F.col("dep_delay"))
    return frame.groupBy("date", "carrier", "airline", "origin").agg(
        F.count("*").alias("flights"),
        F.count_if("cancelled").alias("cancelled"),
        F.round(F.mean(delay), 2).alias("mean_dep_delay"),
        F.round(F.percentile(delay, 0.9), 2).alias("p90_dep_delay"),
        F.round(F.mean((delay <= ON_TIME_MINUTES).cast("int")), 4).alias("on_time_share"),
    )


def cube(frame: DataFrame) -> DataFrame:
    """Count a date's flights by carrier and origin, with all subtotals (the book's example 6-10).

    Args:
        frame: The rows of `clean`.

    Returns:
        `date` (date), `carrier`, `origin` (string; null means all), `flights` (long),
        `cancelled` (long), `mean_dep_delay` (double, minutes, 2 decimals, of flights that left).
    """
    delay = F.when(~F.col("cancelled"), F.col("dep_delay"))
    sets = [["date", "carrier", "origin"], ["date", "carrier"], ["date", "origin"], ["date"]]
    return frame.groupingSets(sets, "date", "carrier", "origin").agg(
        F.count("*").alias("flights"),
        F.count_if("cancelled").alias("cancelled"),
        F.round(F.mean(delay), 2).alias("mean_dep_delay"),
    )


def _one_per_key(table: DataFrame, key: list[str], columns: dict[str, Column]) -> DataFrame:
    # dropDuplicates would keep an arbitrary row, which differs from run to run.
    values = F.struct(*(column.alias(name) for name, column in columns.items()))
    unique = table.groupBy(*key).agg(F.max(values).alias("values"))
    return F.broadcast(unique.select(*key, *(F.col("values")[name].alias(name) for name in columns)))
