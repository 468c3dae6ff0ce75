"""A Spark Connect server on loopback, a process of its own: what ``make connect`` runs the Spark tests on."""

import contextlib
import os
import socket
import subprocess
import sys
import time

from object_store import free_port

from jobs import ROOT
from spark_flow.spark.jars import pyspark_home
from spark_flow.spark.session import local_settings

PATIENCE = 120.0

JVM = "The test looks into the JVM (`sparkContext`, `_jdf`) or makes a second session in it (`newSession`)."
MERGE = "`mode: merge` is refused: the transaction id of a MERGE is a setting of the session."
LATE = "Whether a server knows a data source is found when it is used, not before the first node."
TEXT = "A client cannot receive text that is not valid UTF-8, as the excerpt of such a record is."
STREAM = "A stream's function runs in the server's Python: the test does not see what it does there."
SKIPPED = {
    "test_merge": MERGE,
    "test_a_merge_into_a_table_by_name": MERGE,
    "test_a_folder_that_was_replaced_and_a_merge_cannot_be_undone": MERGE,
    "test_the_merge_is_one_scan_of_all_branches": JVM,
    "test_what_is_held_is_released_whatever_happens": JVM,
    "test_a_plan_does_not_read_data_for_a_schema": JVM,
    "test_a_plan_tells_metadata_choices_and_reads_no_data": JVM,
    "test_by_data_is_never_a_full_scan": JVM,
    "test_by_schema_of_a_frame_launches_no_spark_job": JVM,
    "test_by_schema_of_a_source_launches_no_spark_job_where_metadata_tells": JVM,
    "test_a_run_in_somebody_elses_session_warns_once": JVM,
    "test_another_zone_reads_the_instant_and_must_not_write_the_key": JVM,
    "test_a_rerun_in_the_same_zone_replaces_the_hour": JVM,
    "test_a_delta_that_records_local_times_as_utc_is_refused_before_anything_is_written": JVM,
    "test_the_data_sources_of_a_run_are_checked_before_its_first_node": LATE,
    "test_killed_after_a_table_and_started_again": STREAM,
    "test_another_checkpoint_needs_another_name": STREAM,
    "test_batches_of_other_writers_between_do_not_hide_the_streams_own": STREAM,
    "test_a_checkpoint_that_was_set_back_by_more_than_a_batch_is_refused": STREAM,
    "test_every_record_is_kept_or_set_aside_and_fail_raises_if_one_is_set_aside": TEXT,
    "test_invalid_utf_8_is_bad_in_json_and_csv": TEXT,
}
"""What is skipped on Connect, by the name of a test or of its module; docs/where-it-runs.md has the same table."""

# As the fixture ``spark`` sets them; of a Connect session they belong to the server.
QUICK = {
    "spark.master": "local[2]",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}
JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


def _answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def served(folder):
    """A server with Delta's classes; yields its address, as ``SPARK_REMOTE`` has it."""
    port, settings = free_port(), {**local_settings(), **QUICK}
    settings["spark.driver.extraJavaOptions"] += f" {JAVA}"
    settings |= {"spark.connect.grpc.binding.port": port, "spark.connect.grpc.binding.address": "127.0.0.1"}
    settings["spark.sql.warehouse.dir"] = f"{folder}/warehouse"
    options = [part for name, value in settings.items() for part in ("--conf", f"{name}={value}")]
    program = ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "spark-internal"]
    command = [str(pyspark_home() / "bin" / "spark-class"), "org.apache.spark.deploy.SparkSubmit", *options, *program]
    log = folder / "server.log"
    environment = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
    environment["PYTHONPATH"] = f"{ROOT / 'tests'}:{ROOT / 'jobs'}"  # of functions that run in the server
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=environment)
    try:
        until = time.monotonic() + PATIENCE
        while not _answers(port):
            assert process.poll() is None, log.read_text(errors="replace")[-2000:]
            assert time.monotonic() < until, log.read_text(errors="replace")[-2000:]
            time.sleep(0.1)
        yield f"sc://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
