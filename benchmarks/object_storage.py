"""What the main job asks of an object store: requests of a first run, of a reuse, and of a run with one late hour.

    python benchmarks/object_storage.py

State and output are on a server of the S3 protocol on loopback (moto's, an emulator), the flights on the local disk.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from object_store import BUCKET, Server, served  # noqa: E402 - a module of the tests

DAY, LATE = "2013-01-02", "07"
PARTS = ("state/ledger", "state/leases", "state/boundaries", "state", "out")


def main() -> None:
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        flights = folder / "flights" / f"date={DAY}"
        shutil.copytree(ROOT / "data" / "flights" / f"date={DAY}", flights)
        late = flights / f"hour={LATE}"
        late.rename(folder / "late")
        with served(folder) as server:
            counted = {run: of_run(server, folder) for run in ("first run, 18 of 19 hours", "its reuse")}
            (folder / "late").rename(late)
            counted |= {run: of_run(server, folder) for run in ("the late hour", "reuse")}
    kinds = sorted({kind for counts in counted.values() for _, kind in counts})
    print(f"{'':24}{'all':>7}" + "".join(f"{kind:>9}" for kind in kinds) + "".join(f"{part:>18}" for part in PARTS))
    for run, counts in counted.items():
        by_kind = Counter(kind for _, kind in counts.elements())
        by_part = Counter(part for part, _ in counts.elements())
        cells = "".join(f"{by_kind[kind]:>9}" for kind in kinds) + "".join(f"{by_part[part]:>18}" for part in PARTS)
        print(f"{run:24}{counts.total():>7}{cells}")


def of_run(server: Server, folder: Path) -> Counter[tuple[str, str]]:
    """Run the job; the requests by place and kind."""
    before = len(server.requests)
    places = [f"state=s3://{BUCKET}/state", f"output=s3://{BUCKET}/out", f"lineage.path={folder}/lineage.jsonl"]
    hours = f"sources.hourly.path={folder}/flights/date=${{key}}/hour={{branch}}"
    command = [sys.executable, "jobs/daily_flights.py", f"key={DAY}", *places, hours]
    variables = {**os.environ, **server.variables}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return Counter(map(sorted_out, server.requests[before:]))


def sorted_out(request: tuple[str, str]) -> tuple[str, str]:
    """The place and the kind of a request."""
    method, target = request
    address = urlsplit(target)
    query = parse_qs(address.query, keep_blank_values=True)
    path = unquote(query["prefix"][0] if "prefix" in query else address.path.removeprefix(f"/{BUCKET}").lstrip("/"))
    place = next((part for part in PARTS if path.startswith(part)), "out")
    return place, "LIST" if "list-type" in query else method


if __name__ == "__main__":
    main()
