"""State that an earlier version wrote stays valid: the present version reuses all of it.

``golden/state-<version>.tar.gz`` holds a job with its data, state and output, as that version left them. Paths are
part of fingerprints, so each is unpacked where it was made. A change that makes a step here run again would make every
user's runs start over after an upgrade. How to make one: CONTRIBUTING, "Add a golden state".
"""

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from spark_flow.cli import job

GOLDEN = sorted((Path(__file__).parent / "golden").glob("state-*.tar.gz"))
KEY = "key=2013-01-02"


@pytest.fixture(params=GOLDEN, ids=lambda path: path.name.removesuffix(".tar.gz"))
def golden(request):
    folder = Path("/tmp") / f"spark_flow-golden-{request.param.name.removesuffix('.tar.gz').removeprefix('state-')}"
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(request.param) as archive:
        archive.extractall(folder.parent, filter="data")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.spark
@pytest.mark.parametrize("pipeline", ["provider", "consumer"])
def test_the_state_of_an_earlier_version_is_reused(spark, golden, pipeline):
    words = ["--config", str(golden / f"{pipeline}.yaml"), KEY, "--summary-json", str(golden / "summary.json")]
    assert job.main(words, job=str(golden / "job.py")) == 0
    summary = json.loads((golden / "summary.json").read_text())
    assert (summary["state"], summary["generation"], summary["attempt"]) == ("reused", 1, 2)
    assert {node["state"] for node in summary["nodes"]} <= {"reused", "skipped"}
