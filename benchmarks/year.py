"""The flights of 2013, made once into ``benchmarks/data``: what benchmarks read."""

from __future__ import annotations

import sys
from datetime import date, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from make_flights import make_flights  # noqa: E402 - a script of this project, not a package


def made(days: int) -> Path:
    """The folder of the flights of a number of days, made when it is not there."""
    folder = ROOT / "benchmarks" / "data" / f"{days}-days"
    if not folder.exists():
        half = folder.with_name(f".{folder.name}")  # so that an interrupted making is not taken for the data
        rows = make_flights([date(2013, 1, 1) + timedelta(days=n) for n in range(days)], half, layout="daily")
        half.rename(folder)
        print("made " + ", ".join(f"{count} {name}" for name, count in rows.items()), flush=True)
    return folder
