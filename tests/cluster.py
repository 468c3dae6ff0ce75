"""A standalone cluster of Spark on loopback: a master and workers as processes, started as Spark's scripts do."""

import contextlib
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from spark_flow.spark.jars import pyspark_home

PATIENCE = 120.0


def _serve(log, kind, *words):
    """Start a daemon of Spark; the leader of a process group, which its executors belong to."""
    command = [str(pyspark_home() / "bin" / "spark-class"), f"org.apache.spark.deploy.{kind}", *map(str, words)]
    environment = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_NO_DAEMONIZE": "1"}
    with log.open("wb") as output:
        return subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )


def _awaited(process, log, pattern):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if found := re.search(pattern, log.read_text(errors="replace")):
            return found
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        time.sleep(0.1)
    raise AssertionError(f"{log} has no {pattern!r}: {log.read_text(errors='replace')[-2000:]}")


@dataclass
class Cluster:
    """A master and its workers; what a worker runs ends with it."""

    folder: Path
    master: str = ""
    processes: dict[str, subprocess.Popen] = field(default_factory=dict)

    def start_master(self):
        log = self.folder / "master.log"
        found = _serve(log, "master.Master", "--host", "127.0.0.1", "--port", 0, "--webui-port", 0)
        self.processes["master"] = found
        self.master = _awaited(found, log, r"spark://127\.0\.0\.1:\d+")[0]

    def start_worker(self, name, *, cores=1, memory="1g"):
        log, work = self.folder / f"{name}.log", self.folder / name
        words = ["--host", "127.0.0.1", "--webui-port", 0, "--cores", cores, "--memory", memory, "--work-dir", work]
        self.processes[name] = _serve(log, "worker.Worker", *words, self.master)
        _awaited(self.processes[name], log, "Successfully registered with master")

    def kill(self, name):
        """Kill a daemon and what it runs, as the loss of a machine does."""
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def standalone(folder, *, workers=2):
    """A cluster with workers of one core each."""
    folder.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(folder)
    try:
        cluster.start_master()
        for number in range(workers):
            cluster.start_worker(f"worker{number}")
        yield cluster
    finally:
        for name in reversed(list(cluster.processes)):
            cluster.kill(name)
