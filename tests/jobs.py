"""What tests of the jobs share: a job by its command line, in this process with the shared session or in its own."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

from deltalake import DeltaTable

ROOT = Path(__file__).parent.parent
CRASH = "spark_flow/testing/crash.py"
KEY = "2013-01-02"
# C1 alone: a short JVM on small data spends most of its time on compiling. Coverage is that of the workers.
ENVIRONMENT = {**os.environ, "MASTER": "local[2]", "SPARK_SUBMIT_OPTS": "-XX:TieredStopAtLevel=1"}
ENVIRONMENT.pop("COVERAGE_PROCESS_CONFIG", None)


def table(path):
    """A Delta table's rows, in a fixed order."""
    rows = DeltaTable(str(path)).to_pyarrow_table()
    return sorted((tuple(row.values()) for row in rows.to_pylist()), key=repr)


def summary_of(path):
    """A run's summary, and its nodes by name."""
    summary = json.loads(Path(path).read_text()) if Path(path).exists() else {}
    return summary, {node["node"]: node for node in summary.get("nodes", [])}


class Jobs:
    """Runs jobs over the folders ``state`` and ``out`` of a test; the last summary is in ``summary`` and ``nodes``."""

    def __init__(self, root, *, how="process", capsys=None, monkeypatch=None):
        self.root, self.how, self.capsys, self.monkeypatch = root, how, capsys, monkeypatch
        self.summary, self.nodes = {}, {}

    def words(self, *more, key=KEY):
        places = [f"state={self.root}/state", f"output={self.root}/out", f"--summary-json={self.root}/s.json"]
        return [*([f"key={key}"] if key else []), *places, *more]

    def __call__(self, name, *more, key=KEY, environment=(), observers=()):
        """Run a job; returns its exit code and what it printed."""
        Path(self.root, "s.json").unlink(missing_ok=True)
        if self.how == "here":
            done = self._here(name, self.words(*more, key=key), dict(environment), observers)
        else:
            done = self._process([f"jobs/{name}.py", *self.words(*more, key=key)], dict(environment))
        self.summary, self.nodes = summary_of(Path(self.root, "s.json"))
        return done

    def killed(self, name, point, node, *more, key=KEY):
        """Run a job in its own process, that is killed at a point; returns its exit code and what it printed."""
        return self._process([CRASH, point, node, f"jobs/{name}.py", *self.words(*more, key=key)], {})

    def start(self, name, *more, key=KEY, **options):
        """Start a job in its own process."""
        command = [sys.executable, f"jobs/{name}.py", *self.words(*more, key=key)]
        return subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, text=True, **options)

    def states(self, kind="branch"):
        """How many nodes of a kind ended in each state, by the last summary."""
        found = [node["state"] for node in self.summary["nodes"] if node["kind"] == kind]
        return {state: found.count(state) for state in sorted(set(found))}

    def _here(self, name, words, environment, observers):
        with self.monkeypatch.context() as patch:
            patch.chdir(ROOT)
            for variable, value in environment.items():
                patch.setenv(variable, value)
            more = {"observers": observers} if observers else {}
            code = importlib.import_module(name).main(words, **more)
        said = self.capsys.readouterr()
        return code, said.out + said.err

    def _process(self, program, environment):
        command = [sys.executable, *program]
        variables = {**ENVIRONMENT, **environment}
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=variables, check=False)
        return done.returncode, done.stdout + done.stderr
