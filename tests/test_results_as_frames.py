"""What a pattern returns may be given where a frame is asked for; what holds none is named with what to do."""

import functools

import pytest
from conftest import rows

import spark_flow as sf
from spark_flow.core.completeness import Completeness
from spark_flow.engine.lazy_frame import LazyFrame, lazy
from spark_flow.errors import InvalidArgument
from spark_flow.fan_in.branches import FanIn
from spark_flow.fan_out.exclusive_choice import Choice
from spark_flow.sequence.isolated_sequencer.consumer import Handover

COMPLETE = Completeness(node="f", expected=("a",), arrived=("a",))


@pytest.fixture
def run(memory_ledger, state):
    with sf.Run.open("p", "k", ledger=memory_ledger, state=state) as opened:
        yield opened


@pytest.fixture
def frame(run):
    return LazyFrame(run, "f", "merge", "f", (), object)


@pytest.fixture
def results(frame):
    """What patterns return that holds one frame."""
    fan_in = FanIn(frame, COMPLETE)
    handover = Handover("wait", {"lake": frame}, {}, COMPLETE)
    return [frame, fan_in, handover, Choice("a", "", frame), Choice("a", "", fan_in)]


def test_a_result_that_holds_a_frame_is_taken_as_it(run, frame, results):
    for result in results:
        assert lazy(run, result) is frame
        assert sf.local_sequencer(run, result, []) is frame
        assert sf.step(len, name="s", other=result).fingerprint  # an argument of a step


def test_a_result_is_an_argument_of_a_step_and_a_branch_of_a_fan_in(run, frame, results):
    for number, result in enumerate(results):
        made = sf.local_sequencer(run, frame, [sf.step(len, name=f"s{number}", other=result)])
        assert made.inputs == (frame, frame)
        fan_in = sf.aligned_fan_in(run, f"all{number}", {"one": result}, restart=False)
        assert [branch.inputs for branch in fan_in.frame.inputs] == [(frame,)]
        assert sf.by_data(result).about == sf.by_schema(result, has="x").about == "f"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "is a return missing?"),
        ("out/lake", "a str"),
        (sf.source("json", "in"), "read(run, name, source)"),
        (len, "call it"),
        (functools.partial(len, ""), "call it"),
        ({"lake": 1}, "a dict"),
        (Handover("wait", {}, {}, COMPLETE), "0 tables"),
        (Handover("wait", {"a": 1, "b": 2}, {}, COMPLETE), "2 tables (a, b)"),
        (Choice("a", "", 3), "a int of route 'a'"),
        (Choice("", "decided by data when it runs", None), "decided by data"),
    ],
)
def test_what_holds_no_frame_is_refused_with_what_to_do(run, tmp_path, value, words):
    sink = sf.csv(str(tmp_path / "x"))
    for give in (
        lambda: sf.write(run, "x", value, sink),
        lambda: sf.local_sequencer(run, value, [len]),
        lambda: sf.parallel_split(run, value, {"x": sink}),
    ):
        with pytest.raises(InvalidArgument) as refused:
            give()
        assert words in refused.value.found


@pytest.mark.spark
def test_results_are_written_as_frames(spark, memory_ledger, state, tmp_path):
    with sf.Run.open("p", "k", ledger=memory_ledger, state=state, spark=spark) as run:
        fan_in = sf.aligned_fan_in(run, "f", {"a": spark.range(2), "b": spark.range(2, 3)}, restart=False)
        choice = sf.exclusive_choice(run, "c", {"all": (None, lambda: fan_in)}, default="all")
        sf.write(run, "fan_in", fan_in, sf.parquet(str(tmp_path / "fan_in")))
        sf.parallel_split(run, choice, {"choice": sf.parquet(str(tmp_path / "choice"))})
    for name in ("fan_in", "choice"):
        assert rows(spark.read.parquet(str(tmp_path / name)).select("id")) == [(0,), (1,), (2,)]
