"""What a claim costs: processes that fight for one lease, and for a pool of three slots.

    python benchmarks/leases.py                        # 8 processes, 400 claims, each five rounds
    python benchmarks/leases.py --rounds 1 --claims 80

The processes share nothing but a folder. That there were never more holders than slots is read from the log's own JSON
files, version by version, by nothing of ours; and that each claim was held once.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import shutil
import time
from pathlib import Path
from statistics import median

from spark_flow.orchestration.leases import Leases, hold

WORK = Path(__file__).resolve().parent / "work" / "leases"
AIM = 20  # claims a second, of all processes together


def main() -> None:
    parser = argparse.ArgumentParser(description="Time claims of a lease and of a pool.")
    parser.add_argument("--processes", type=int, default=8, help="how many fight (8)")
    parser.add_argument("--claims", type=int, default=400, help="how many claims in all (400)")
    parser.add_argument("--rounds", type=int, default=5, help="how often (5)")
    args = parser.parse_args()
    for name, slots in (("one lease", 1), ("a pool of 3", 3)):
        rates = [one_round(slots, args.processes, args.claims) for _ in range(args.rounds)]
        shown = f"median {median(rates):.1f} claims/s, {min(rates):.1f} to {max(rates):.1f}"
        print(f"{name}, {args.processes} processes, {args.claims} claims: {shown} (aim: {AIM})", flush=True)
    shutil.rmtree(WORK, ignore_errors=True)


def one_round(slots: int, processes: int, claims: int) -> float:
    """Claims a second, from the moment at which all processes are ready to the last release."""
    shutil.rmtree(WORK, ignore_errors=True)
    spawn = mp.get_context("spawn")  # deltalake's runtime does not survive a fork
    ready = spawn.Barrier(processes + 1)
    shares = [claims // processes + (n < claims % processes) for n in range(processes)]
    workers = [spawn.Process(target=work, args=(slots, n, share, ready)) for n, share in enumerate(shares)]
    for worker in workers:
        worker.start()
    ready.wait()
    began = time.perf_counter()
    for worker in workers:
        worker.join()
    took = time.perf_counter() - began
    if any(worker.exitcode for worker in workers):
        raise SystemExit(f"exit codes {[worker.exitcode for worker in workers]}")
    check(WORK / "pools" / "bench" / "_delta_log", slots, claims)
    return claims / took


def work(slots: int, number: int, share: int, ready: mp.synchronize.Barrier) -> None:
    """Hold a lease so often, each time for nothing at all."""
    place = Leases(str(WORK)).of_pool("bench")
    ready.wait()
    for n in range(share):
        with hold(place, "bench", f"{number}-{n}", limit=slots):
            pass


def check(log: Path, slots: int, claims: int) -> None:
    """Read each version of the register from its file."""
    holders: set[str] = set()
    most = 0
    for path in sorted(log.glob("[0-9]*.json")):
        actions = [json.loads(line) for line in path.read_text().splitlines()]
        told = [
            a["commitInfo"]["spark_flow.register"] for a in actions if "spark_flow.register" in a.get("commitInfo", {})
        ]
        for text in told:
            held = [claim for claim in json.loads(text)["content"]["claims"] if claim["token"]]
            most = max(most, sum(claim["slots"] for claim in held))
            holders |= {claim["id"] for claim in held}
    if most > slots or len(holders) != claims:
        raise SystemExit(f"at most {most} of {slots} slots were held, by {len(holders)} of {claims} claims")


if __name__ == "__main__":
    main()
