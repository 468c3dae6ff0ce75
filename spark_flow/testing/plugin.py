"""Pytest fixtures for Spark in local mode, available wherever spark-flow is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyspark.sql import SparkSession

    from spark_flow.ledger.memory import MemoryLedger


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """A local Delta session for the whole test run, quick on small frames: two cores, two shuffle partitions, no UI.

    On a few rows, compiling costs more than it saves: Java compiles with C1 alone and collects garbage in one thread,
    and Spark interprets its expressions (``spark.sql.codegen.factoryMode``), which gives the same rows.
    """
    from spark_flow.spark.session import session

    quick = {
        "spark.master": "local[2]",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    }
    made = session("tests", config=quick)
    yield made
    made.stop()


@pytest.fixture
def state(tmp_path: Path) -> str:
    """The path of an empty state folder."""
    return str(tmp_path / "state")


@pytest.fixture
def memory_ledger() -> MemoryLedger:
    """An in-memory ledger: the rules of the Delta ledger without a table."""
    from spark_flow.ledger.memory import MemoryLedger

    return MemoryLedger()
