"""The steps by themselves, and the whole job twice."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import steps
from chispa import assert_df_equality

from spark_flow.cli import job

FILE = Path(__file__).parent.parent / "job.yaml"


def test_per_product_sums_up_a_day(spark):
    orders = spark.createDataFrame(
        [("tea", 2, Decimal("3.50")), ("tea", 1, Decimal("3.50")), ("cup", 1, Decimal("8.00"))],
        "product STRING, quantity INT, price DECIMAL(10,2)",
    )
    expected = spark.createDataFrame(
        [(date(2024, 3, 1), "cup", 1, Decimal("8.00")), (date(2024, 3, 1), "tea", 3, Decimal("10.50"))],
        "date DATE, product STRING, sold LONG, amount DECIMAL(31,2)",
    )
    found = steps.per_product(steps.with_amount(orders), "2024-03-01")
    assert_df_equality(found, expected, ignore_row_order=True, ignore_nullable=True)


def test_the_job_twice_writes_once(spark, tmp_path, capsys):
    command = ["--config", str(FILE), "key=2024-03-01", f"state={tmp_path}/state", f"output={tmp_path}/out"]
    for _ in range(2):
        assert job.main(command, job=str(FILE)) == 0
    assert "reused" in capsys.readouterr().out
    assert spark.read.format("delta").load(f"{tmp_path}/out/sales").count() == 3
