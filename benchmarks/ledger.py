"""What an event costs: events appended one at a time to the ledger of a state folder, compactions included.

python benchmarks/ledger.py --events 2000
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from statistics import mean, median, quantiles

from deltalake import DeltaTable

from spark_flow.ledger import DeltaLedger, Event

STATE = Path(__file__).resolve().parent / "work" / "ledger"
AIM_MS = 40


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the ledger's appends.")
    parser.add_argument("--events", type=int, default=2000, help="how many, one commit each (2000)")
    args = parser.parse_args()
    shutil.rmtree(STATE, ignore_errors=True)
    ledger = DeltaLedger(str(STATE))
    times = [timed(ledger, number) for number in range(args.events)]
    kept = len(ledger.read("bench", "2013-01-02"))
    grown = on_disk()
    ledger.compact()
    live = sum(Path(uri.removeprefix("file://")).stat().st_size for uri in DeltaTable(f"{STATE}/ledger").file_uris())
    shutil.rmtree(STATE)
    if kept != args.events:
        raise SystemExit(f"{kept} events are in the ledger, {args.events} were appended")
    p99 = quantiles(times, n=100)[98]
    print(f"{args.events} events, ms each: median {median(times):.1f}, mean {mean(times):.1f}, p99 {p99:.1f}", end="")
    print(f", max {max(times):.1f} (aim: median {AIM_MS})")
    print(f"on disk: {grown}; compacted, the events take {live / 1024:.0f} KiB, the rest is removed after a week")


def on_disk() -> str:
    sizes = [path.stat().st_size for path in STATE.rglob("*") if path.is_file()]
    return f"{sum(sizes) / 2**20:.1f} MiB in {len(sizes)} files"


def timed(ledger: DeltaLedger, number: int) -> float:
    """Append one event as a run would; its milliseconds."""
    event = Event(
        pipeline="bench",
        key="2013-01-02",
        generation=1,
        attempt=1,
        seq=number + 1,
        node=f"hours/{number:04d}",
        kind="branch",
        state="succeeded",
        revision=1,
        fingerprint="0" * 64,
        rows=1000,
        duration_ms=1500,
        reason="checkpoint written",
        detail={"path": f"boundaries/bench/2013-01-02/g1/hours/{number:04d}/1", "files": 4, "bytes": 123_456},
    )
    began = time.perf_counter()
    ledger.append([event])
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
