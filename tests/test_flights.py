from __future__ import annotations

import importlib.util
from datetime import date, datetime, timezone
from pathlib import Path

import pytest
from chispa import assert_df_equality
from pyspark.sql import functions as F

ROOT = Path(__file__).parents[1]
DATA = ROOT / "data"

spec = importlib.util.spec_from_file_location("flights", ROOT / "jobs" / "flights.py")
flights = importlib.util.module_from_spec(spec)
spec.loader.exec_module(flights)

TEN = datetime(2013, 1, 2, 10, tzinfo=timezone.utc)
FLIGHT = {
    "year": 2013, "month": 1, "day": 2, "dep_time": 458, "sched_dep_time": 500, "dep_delay": -2,
    "arr_time": 703, "sched_arr_time": 650, "arr_delay": 13, "carrier": "US", "flight": 1030,
    "tailnum": "N162UW", "origin": "EWR", "dest": "CLT", "air_time": 108, "distance": 529,
    "hour": 5, "minute": 0, "time_hour": TEN,
}  # fmt: skip
NEVER_LEFT = {"dep_time": None, "dep_delay": None, "arr_time": None, "arr_delay": None, "air_time": None}


def raw(spark, *changes):
    """Flights like FLIGHT, each with its changes."""
    rows = [FLIGHT | change for change in changes]
    nullable = flights.SCHEMA.fromJson(flights.SCHEMA.jsonValue())
    for field in nullable:
        field.nullable = True
    return spark.createDataFrame([tuple(row[name] for name in nullable.names) for row in rows], nullable)


def reference(spark, schema, *rows):
    return spark.createDataFrame([tuple(row.get(name) for name in schema.names) for row in rows], schema)


def references(spark, *, weather=(), planes=(), airlines=()):
    return {
        "weather": reference(spark, flights.WEATHER_SCHEMA, *weather),
        "planes": reference(spark, flights.PLANES_SCHEMA, *planes),
        "airlines": reference(spark, flights.AIRLINES_SCHEMA, *airlines),
    }


def slice_of(spark, day):
    return spark.read.schema(flights.SCHEMA).json(f"{DATA}/flights/date={day}")


def slice_references(spark):
    return {
        "weather": spark.read.schema(flights.WEATHER_SCHEMA).json(f"{DATA}/weather"),
        "planes": spark.read.schema(flights.PLANES_SCHEMA).json(f"{DATA}/planes"),
        "airlines": spark.read.schema(flights.AIRLINES_SCHEMA).json(f"{DATA}/airlines"),
    }


def test_required_columns():
    assert {field.name for field in flights.SCHEMA if field.nullable} == {
        "dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay", "tailnum", "air_time",
    }  # fmt: skip


@pytest.mark.spark
def test_clean(spark):
    frame = raw(spark, {}, {"carrier": " us ", "origin": "ewr"} | NEVER_LEFT)

    result = flights.clean(frame)

    columns = (
        "date date, carrier string, flight int, tailnum string, origin string, dest string, "
        "time_hour timestamp, sched_dep_time int, dep_delay int, arr_delay int, air_time int, distance int, "
        "cancelled boolean"
    )
    day = date(2013, 1, 2)
    expected = spark.createDataFrame(
        [
            (day, "US", 1030, "N162UW", "EWR", "CLT", TEN, 500, -2, 13, 108, 529, False),
            (day, "US", 1030, "N162UW", "EWR", "CLT", TEN, 500, None, None, None, 529, True),
        ],
        columns,
    )
    assert_df_equality(result, expected, ignore_nullable=True)


@pytest.mark.spark
@pytest.mark.parametrize("change", [{"carrier": None}, {"carrier": "  "}, {"origin": None}, {"origin": ""}])
def test_clean_leaves_out_a_record_without_carrier_or_origin(spark, change):
    assert flights.clean(raw(spark, {}, change)).count() == 1


@pytest.mark.spark
def test_enrich_adds_weather_plane_and_airline(spark):
    tables = references(
        spark,
        weather=[{"origin": "EWR", "time_hour": TEN, "temp": 28.9, "wind_speed": 8.1, "precip": 0.0, "visib": 10.0}],
        planes=[{"tailnum": "N162UW", "year": 2001, "manufacturer": "AIRBUS", "model": "A321-211", "seats": 199}],
        airlines=[{"carrier": "US", "name": "US Airways Inc."}],
    )
    cleaned = flights.clean(raw(spark, {}, {"carrier": "AA", "origin": "JFK", "tailnum": None}))

    result = flights.enrich(cleaned, **tables)

    added = (
        "carrier string, weather_temp double, weather_wind_speed double, weather_precip double, "
        "weather_visib double, manufacturer string, model string, seats int, plane_year int, airline string"
    )
    expected = spark.createDataFrame(
        [
            ("US", 28.9, 8.1, 0.0, 10.0, "AIRBUS", "A321-211", 199, 2001, "US Airways Inc."),
            ("AA", *[None] * 9),
        ],
        added,
    )
    assert result.columns[: len(cleaned.columns)] == cleaned.columns
    added_to = result.select("carrier", *result.columns[len(cleaned.columns) :])
    assert_df_equality(added_to, expected, ignore_nullable=True, ignore_row_order=True)


@pytest.mark.spark
def test_enrich_never_multiplies_rows(spark):
    tables = references(
        spark,
        weather=[{"origin": "EWR", "time_hour": TEN, "temp": temp} for temp in (30.0, 28.9, None)],
        planes=[{"tailnum": "N162UW", "manufacturer": name} for name in ("AIRBUS", "BOEING", None)],
        airlines=[{"carrier": "US", "name": name} for name in ("US Airways", "American", None)],
    )

    result = flights.enrich(flights.clean(raw(spark, {}, {})), **tables)

    greatest = spark.createDataFrame(
        [(30.0, "BOEING", "US Airways")] * 2,
        "weather_temp double, manufacturer string, airline string",
    )
    assert_df_equality(result.select(greatest.columns), greatest, ignore_nullable=True)


@pytest.mark.spark
def test_daily(spark):
    delays = [{"dep_delay": delay} for delay in (-5, 0, 15, 16, 100)]
    alone = {"origin": "JFK"} | NEVER_LEFT
    tables = references(spark, airlines=[{"carrier": "US", "name": "US Airways Inc."}])
    enriched = flights.enrich(flights.clean(raw(spark, *delays, NEVER_LEFT, alone)), **tables)

    result = flights.daily(enriched)

    expected = spark.createDataFrame(
        [
            (date(2013, 1, 2), "US", "US Airways Inc.", "EWR", 6, 1, 25.2, 66.4, 0.6),
            (date(2013, 1, 2), "US", "US Airways Inc.", "JFK", 1, 1, None, None, None),
        ],
        "date date, carrier string, airline string, origin string, flights long, cancelled long, "
        "mean_dep_delay double, p90_dep_delay double, on_time_share double",
    )
    assert_df_equality(result, expected, ignore_nullable=True, ignore_row_order=True)


@pytest.mark.spark
def test_one_real_day(spark):
    enriched = flights.enrich(flights.clean(slice_of(spark, "2013-01-02")), **slice_references(spark))

    result = flights.daily(enriched)

    totals = result.agg(F.count("*"), F.sum("flights"), F.sum("cancelled"), F.count("airline")).first()
    assert tuple(totals) == (31, 943, 8, 31)
    united = result.where("carrier = 'UA' AND origin = 'EWR'").drop("date", "carrier", "airline", "origin")
    expected = spark.createDataFrame(
        [(137, 1, 12.26, 28.5, 0.7941)],
        "flights long, cancelled long, mean_dep_delay double, p90_dep_delay double, on_time_share double",
    )
    assert_df_equality(united, expected, ignore_nullable=True)
