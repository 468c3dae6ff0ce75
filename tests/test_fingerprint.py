"""What counts as the same step, and what does not."""

import dataclasses
import datetime as dt
import functools
import importlib
import site
import sys
import sysconfig
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from pyspark.sql import functions as F

import spark_flow as sf
from spark_flow import sql
from spark_flow.core import fingerprint
from spark_flow.errors import InvalidStep


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a user's module and import it anew."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(text, name="users_steps"):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        sys.modules.pop(name, None)
        importlib.invalidate_caches()
        sys.dont_write_bytecode = True
        import linecache

        linecache.checkcache()
        return importlib.import_module(name)

    return write


BASE = """
    RATE = 2
    CALLS = []

    def helper(x):
        return x * RATE

    def step(frame):
        CALLS.append(1)
        return helper(frame)
"""


def of(module, text):
    return fingerprint.of(module(text).step)


def test_the_same_source_gives_the_same_fingerprint(module):
    assert of(module, BASE) == of(module, BASE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return helper(frame)", "return helper(frame)  # a comment"),
        ("def step(frame):", 'def step(frame):\n        """Say what it does."""'),
        ("return x * RATE", "return (x\n                * RATE)"),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(module, old, new):
    assert of(module, BASE) == of(module, BASE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return helper(frame)", "return helper(frame) + 1"),
        ("return x * RATE", "return x + RATE"),
        ("RATE = 2", "RATE = 3"),
    ],
    ids=["the step", "a helper that it calls", "a constant that a helper reads"],
)
def test_what_a_step_is_made_of_counts(module, old, new):
    assert of(module, BASE) != of(module, BASE.replace(old, new))


def test_a_helper_in_another_module_of_the_users_counts(module):
    text = """
        import users_helper

        def step(frame):
            return users_helper.rate(frame)
    """
    module("def rate(x):\n    return x * 2\n", name="users_helper")
    before = of(module, text)
    module("def rate(x):\n    return x * 3\n", name="users_helper")
    assert of(module, text) != before


def test_an_object_that_the_step_itself_changes_is_state_and_does_not_count(module):
    loaded = module(BASE)
    before = fingerprint.of(loaded.step)
    loaded.CALLS.append(1)
    assert fingerprint.of(loaded.step) == before


def test_recursion_ends(module):
    text = """
        def step(n):
            return other(n)

        def other(n):
            return step(n - 1) if n else 0
    """
    assert of(module, text) == of(module, text)


def test_bound_arguments_and_closures_count():
    def add(unit):
        def convert(frame):
            return (frame, unit)

        return convert

    assert fingerprint.of(add("mph")) != fingerprint.of(add("kmh"))
    assert fingerprint.of(add("mph")) == fingerprint.of(add("mph"))
    assert fingerprint.of(functools.partial(add, "a")) != fingerprint.of(functools.partial(add, "b"))
    assert fingerprint.of(sql("SELECT 1 FROM {frame}")) != fingerprint.of(sql("SELECT 2 FROM {frame}"))


def test_a_decorator_counts(module):
    text = """
        import functools

        def scaled(function):
            @functools.wraps(function)
            def wrapper(frame):
                return function(frame) * 2
            return wrapper

        @scaled
        def step(frame):
            return frame
    """
    assert of(module, text) != of(module, text.replace("* 2", "* 3"))
    assert of(module, text) != of(module, text.replace("return frame\n", "return frame + 1\n"))


def test_two_lambdas_on_one_line_differ():
    one, two = [lambda x: x + 1, lambda x: x + 2]
    assert fingerprint.of(one) != fingerprint.of(two)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, "1"),
        (True, 1),
        ([1, 2], [2, 1]),
        ({"a": 1}, {"a": 2}),
        (dt.date(2013, 1, 2), "2013-01-02"),
        (None, ""),
        (0.1, 0.2),
    ],
)
def test_different_values_differ(one, other):
    assert fingerprint.of(one) != fingerprint.of(other)


def test_the_order_of_a_mapping_or_a_set_does_not_count():
    assert fingerprint.of({"a": 1, "b": 2}) == fingerprint.of({"b": 2, "a": 1})
    assert fingerprint.of({"x", "y", "z"}) == fingerprint.of({"z", "y", "x"})


def test_a_value_without_content_is_refused_by_name_and_type():
    with pytest.raises(InvalidStep) as refused:
        fingerprint.of({"lock": threading.Lock()}, name="enrich")
    assert refused.value.step == "enrich"
    assert "lock" in refused.value.found


def test_a_function_may_use_a_module_that_is_built_into_python():
    def waits(frame):
        time.sleep(0)
        return frame

    assert fingerprint.of(waits) == fingerprint.of(waits)


# --- what looks as if it knew its fingerprint, and does not --------------------------------------------------------


class _HasMethod:
    def fingerprint(self):
        return "not a hash of what it is made of"

    def __call__(self, frame):
        return frame


@dataclasses.dataclass(frozen=True)
class _Certificate:
    fingerprint: str
    holder: str = ""


class _Knows:
    def __init__(self, own):
        self.fingerprint = own


def test_a_step_may_use_our_package_by_name():
    def both(frame):
        return sf.union_by_name({"a": frame, "b": frame})

    assert fingerprint.of(both) == fingerprint.of(both)
    assert fingerprint.of(sf) == fingerprint.of(sf)


@pytest.mark.parametrize("value", [_HasMethod(), _Knows(7), _Knows(None)], ids=["a method", "a number", "nothing"])
def test_only_a_text_is_a_fingerprint_of_its_own(value):
    with pytest.raises(InvalidStep):
        fingerprint.of(value)


def test_who_says_its_fingerprint_as_text_is_taken_at_its_word():
    assert fingerprint.of(_Knows("a")) == fingerprint.of(_Knows("a")) != fingerprint.of(_Knows("b"))


def test_a_field_of_that_name_is_one_of_several():
    assert fingerprint.of(_Certificate("ab", "me")) != fingerprint.of(_Certificate("ab", "you"))


def test_a_class_with_a_fingerprint_is_a_class():
    assert fingerprint.of(sf.LazyFrame) == fingerprint.of(sf.LazyFrame)


# --- whose code it is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [fingerprint._OURS, sysconfig.get_path("stdlib"), site.getusersitepackages()])
def test_a_folder_whose_name_only_begins_like_ours_or_pythons_is_the_users(folder):
    assert fingerprint._is_installed(f"{folder}/x.py")
    assert not fingerprint._is_installed(f"{folder}_jobs/steps.py")


def test_a_project_that_holds_its_own_environment_is_the_users():
    purelib = sysconfig.get_path("purelib")
    assert fingerprint._is_installed(f"{purelib}/pandas/x.py")
    assert not fingerprint._is_installed(f"{purelib.partition('/lib/')[0]}/../steps.py")


def test_a_helper_beside_our_own_folder_counts(module, monkeypatch, tmp_path):
    monkeypatch.setattr(fingerprint, "_INSTALLED", (str(tmp_path / "spark_flow"),))
    (tmp_path / "spark_flow_jobs").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "spark_flow_jobs"))
    text = "def step(frame):\n    return frame * RATE\nRATE = {}\n"

    def made(rate):
        (tmp_path / "spark_flow_jobs" / "job_steps.py").write_text(text.format(rate))
        sys.modules.pop("job_steps", None)
        importlib.invalidate_caches()
        return fingerprint.of(importlib.import_module("job_steps").step)

    assert made(2) != made(33)


# --- frames --------------------------------------------------------------------------------------------------------


VIEWS = ("_pyspark", "_pyspark_connect_temp_view", "spark_flow")  # by DataFrames in SQL, the same on Connect, ours


def test_generated_names_of_views_do_not_count():
    plans = [f"View (`{name}_{digit * 32}`, [id#{digit}])" for name in VIEWS for digit in "12"]
    assert {fingerprint._stable(plan) for plan in plans} == {"View (`frame`, [id#0])"}


@pytest.mark.spark
def test_frames_in_two_threads_get_each_its_own_fingerprint(spark, capsys):
    frames = [spark.range(5).withColumn("n", F.col("id") + at) for at in range(2)]
    alone = [fingerprint.of_frame(frame) for frame in frames]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(fingerprint.of_frame, frames * 8))
    assert alone[0] != alone[1]
    assert together == alone * 8
    assert capsys.readouterr().out == ""
    assert [table.name for table in spark.catalog.listTables() if "pyspark" in table.name] == []


@pytest.mark.spark
@pytest.mark.parametrize(
    "made",
    [
        pytest.param(lambda s: [s.range(3).select("id", "id"), s.range(4).select("id", "id")], id="one name twice"),
        pytest.param(lambda s: [s.range(3).select(), s.range(4).select()], id="no column"),
        pytest.param(lambda s: [_wide(s, 39), _wide(s, 77)], id="beyond what Spark prints of a list"),
        pytest.param(lambda s: [_joined(s, "a"), _joined(s, "b")], id="the other one of two columns of a name"),
    ],
)
def test_frames_that_differ_have_different_fingerprints(spark, made):
    one, other = made(spark)
    assert fingerprint.of_frame(one) == fingerprint.of_frame(one)
    assert fingerprint.of_frame(one) != fingerprint.of_frame(other)
    assert not [t.name for t in spark.catalog.listTables("global_temp") if t.name.startswith("spark_flow_")]
    assert spark.conf.get("spark.sql.debug.maxToStringFields") == "25"


def _wide(spark, last):
    return spark.range(3).select(*[(F.col("id") + at).alias(f"c{at}") for at in range(39)], F.lit(last).alias("last"))


def _joined(spark, side):
    a, b = (
        spark.range(3).withColumn("g", F.col("id")).alias("a"),
        spark.range(3).withColumn("g", F.col("id")).alias("b"),
    )
    return a.join(b, "id").select(f"{side}.g")


@pytest.mark.spark
def test_a_frame_with_a_column_of_that_name_is_a_frame(spark):
    frame = spark.range(3).withColumnRenamed("id", "fingerprint")
    assert fingerprint.of({"other": frame}) == fingerprint.of({"other": frame})


@pytest.mark.spark
def test_the_files_of_a_frame_count(spark, lines):
    one = lines('{"n": 1}', name="one")
    read = spark.read.schema("n INT").json
    before = fingerprint.of_frame(read(one))
    lines('{"n": 1}', name="one", file="b.json")
    assert fingerprint.of_frame(read(one)) != before
