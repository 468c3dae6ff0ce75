"""Notebooks: objects show as HTML, a failing cell shows the message, and the tour runs as it is."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import spark_flow as sf
from spark_flow.core import html
from spark_flow.engine.node import Node
from spark_flow.storage.sink_protocol import Written

TOUR = Path(__file__).parent.parent / "notebooks" / "tour.ipynb"
NASTY = "<script>alert(1)</script>"


def test_text_of_users_is_escaped():
    table = html.table(NASTY, (NASTY,), [(NASTY,)], states=0)
    assert "<script>" not in table + html.bar(1, 2, NASTY) + html.table("", (), [(NASTY,)])


def test_a_run_and_what_it_found_show_as_html(state, memory_ledger):
    with sf.Run.open("p", "k", state=state, ledger=memory_ledger) as run:
        run.once(Node(name="n"), lambda _: Written(rows=1234, reason=NASTY))
        routes = {"a": (sf.by_date(before="2013-01-03"), lambda: 1), "b": (None, lambda: 2)}
    with sf.Run.open("p", "2013-01-02", state=state, ledger=memory_ledger) as other:
        choice = sf.exclusive_choice(other, "road", routes, default="b")
    for shown, words in (
        (run._repr_html_(), ("p k, generation 1", "succeeded", "1,234", "&lt;script&gt;")),
        (choice._repr_html_(), ("taken", "key before 2013-01-03: yes", "not taken", "the default")),
    ):
        assert [word for word in words if word not in shown] == []
    assert choice.not_taken == {"b": "the default"}


@pytest.mark.spark
def test_a_lazy_frame_says_how_to_get_its_rows(spark, state, memory_ledger, capsys):
    with sf.Run.open("p", "k", state=state, ledger=memory_ledger, spark=spark) as run:
        frame = sf.local_sequencer(run, spark.range(3), [sf.step(lambda frame: frame, name="same")])
        assert "not computed" in frame._repr_html_() + repr(frame)
        with pytest.raises(AttributeError, match=r"\.frame\.count"):
            frame.count()
        assert not hasattr(frame, "_ipython_display_")
        frame.show(1)
        assert "id bigint" in frame._repr_html_()
    assert "| id|" in capsys.readouterr().out


@pytest.mark.process
def test_the_tour_runs_and_its_failing_cell_shows_the_message_alone(monkeypatch):
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # a kernel ends without writing its data
    tour = nbformat.read(TOUR, as_version=4)
    NotebookClient(tour, timeout=300, kernel_name="python3", resources={"metadata": {"path": TOUR.parent}}).execute()
    cells = [cell for cell in tour.cells if cell.cell_type == "code"]
    (error,) = [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    assert (error.ename, len(error.traceback)) == ("NodeFailed", 1)
    assert error.traceback[0].endswith("(cell, line 2, in broken)")
    shown = json.dumps([cell.outputs for cell in cells])
    for words in ("reused", "would run", "missing 13", "hours/13", "19 of 20 branches", "not taken", "taken"):
        assert words in shown
    assert "Traceback" not in shown
