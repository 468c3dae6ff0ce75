"""Pictures and trees: of a file without Spark, of a plan, of a run; the same nodes and arrows in each."""

import json
import re
from pathlib import Path

import pytest
from test_cli import call

from spark_flow import Run
from spark_flow.engine.node import Node
from spark_flow.jobfile.plan import draw
from spark_flow.ledger import DeltaLedger
from spark_flow.storage.sink_protocol import Written
from spark_flow.view.graph import dot, mermaid, nodes_of, of_file, of_run
from spark_flow.view.tables import runs

ROOT = Path(__file__).parent.parent
KEY = "2024-03-01"
JOB = f"""
pipeline: shop
key: ???
output: OUT
sources:
  orders: {{format: json, path: "FOLDER/{{branch}}", schema: "day DATE, id INT, shop STRING"}}
  shops: {{format: json, path: "FOLDER/shops", schema: "shop STRING, city STRING"}}
flow:
  - unaligned_fan_in: {{name: hours, source: orders, branches: ["07", "08", "09"], require: at_least(0.5)}}
  - step: {{name: located, sql: "SELECT day, id FROM {{frame}} JOIN {{shops}} USING (shop)", with: {{shops: shops}}}}
  - exclusive_choice:
      name: kind
      routes:
        old: {{when: {{by_date: {{before: {KEY}}}}}, flow: [step: {{name: small, sql: "SELECT day FROM {{frame}}"}}]}}
        new: {{when: {{by_date: {{since: {KEY}}}}}, flow: [step: {{name: whole, sql: "SELECT * FROM {{frame}}"}}]}}
  - transaction:
      - parallel_split:
          lake: {{format: delta, path: OUT/lake, partition_by: day}}
          legacy:
            {{format: csv, path: OUT/legacy, partition_by: day, step: {{name: ids, sql: "SELECT * FROM {{frame}}"}}}}
  - publish: shop
"""


@pytest.fixture
def job(tmp_path):
    """The file, its folders of data without hour 09."""
    for name, row in (("07", {"id": 1}), ("08", {"id": 2}), ("shops", {"city": "Ulm"})):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "a.json").write_text(json.dumps({"day": KEY, "shop": "a", **row}))
    return JOB


def inputs(nodes):
    return {node["name"]: sorted(node["inputs"]) for node in nodes if node["inputs"]}


@pytest.mark.spark
def test_the_file_the_plan_and_the_run_have_the_same_arrows(run_file, job, tmp_path):
    code, said = run_file(job, f"key={KEY}", "--plan", "--json")
    planned = json.loads(said[said.index("{") :])
    assert code == 0
    assert run_file(job, f"key={KEY}")[0] == 0
    drawn = draw(tmp_path / "job.yaml", [f"key={KEY}"])
    (view,) = runs(DeltaLedger(f"{tmp_path}/state").read())
    ran = inputs(nodes_of(view))
    assert ran == {node: found for node, found in inputs(planned["nodes"]).items() if node in ran}
    of_the_file = inputs(drawn["nodes"])
    routes = {"kind/old", "kind/new", "small"}  # a route is a place, not a node; the file has those not taken
    assert {node: found for node, found in of_the_file.items() if node not in routes} == {
        **ran,
        "publish/split": ["small", "whole"],  # either
    }
    untaken = [arrow for arrow in of_run(view).arrows if arrow.dotted]
    assert [(arrow.start, arrow.end) for arrow in untaken] == [("kind", "kind/old")]


@pytest.mark.spark
def test_the_tree_of_a_run_tells_what_is_missing_and_what_happens_again(run_file, job, tmp_path):
    run_file(job, f"key={KEY}")
    code, said = call("show", "shop", KEY, "--state", f"{tmp_path}/state")
    lines = [line.strip("│├└─ ") for line in said.splitlines()]
    names = ("hours ", "located", "whole", "lake")
    order = [next(at for at, line in enumerate(lines) if name in line) for name in names]
    assert (code, order == sorted(order)) == (0, True)
    assert any(line.startswith("skipped kind/old  not taken") for line in lines)
    assert any(line.startswith("incomplete: 2 of 3; missing 09") for line in lines)
    assert re.match(r"again: the same command reuses \d+ node\(s\) and runs hours/09", lines[-1])
    assert "2 of 3" in call("completeness", "--state", f"{tmp_path}/state")[1]


WITHOUT_FLOW = ("pools.yaml", "stream_split.yaml")
FILES = sorted(path.name for path in (ROOT / "conf").glob("*.yaml") if path.name not in WITHOUT_FLOW)


def test_a_later_attempt_reads_a_result_without_its_position(state, memory_ledger):
    """Else what transactions and markers record of a reused table would depend on how the flow is drawn."""
    details = []
    for _ in range(2):
        with Run.open("p", "k", state=state, ledger=memory_ledger) as run, run.graph.route("choice/route"):
            run.graph.uses("n", ["before"])
            details.append(run.once(Node(name="n"), lambda _: Written(detail={"path": "x"})).detail)
    assert details == [{"path": "x"}, {"path": "x"}]
    recorded = [event.detail for event in memory_ledger.read() if event.node == "n"]
    assert recorded[-1] == {"path": "x", "upstream": ["before"], "within": "choice/route"}


@pytest.mark.parametrize("name", FILES)
def test_each_bundled_file_is_drawn_without_its_modules(name):
    drawn = draw(ROOT / "conf" / name, [])
    names = {node["name"] for node in drawn["nodes"]}
    assert {name for node in drawn["nodes"] for name in node["inputs"]} <= names
    for text in (mermaid(of_file(drawn)), dot(of_file(drawn))):
        assert text.count("\n") > len(names) / 2


def test_text_of_users_is_no_markup_in_a_picture():
    nasty = {"name": 'a"b<i>', "kind": "step", "inputs": [], "state": "failed", "reason": '"]; click n0 "x" \x1b[2J'}
    drawn = of_file({"pipeline": 'p"\n  n9 --> n8', "nodes": [nasty]})
    for text in (mermaid(drawn), dot(drawn)):
        assert "\x1b" not in text
        assert "\n  n9" not in text
    assert '["a#34;b#60;i#62;<br>failed<br>#34;]; click n0 #34;x#34; #92;x1b[2J"]' in mermaid(drawn)
    assert re.search(r'label="a\\"b<i>\\nfailed\\n\\"]; click n0 \\"x\\" \\\\x1b\[2J"', dot(drawn))


def test_a_graph_of_nothing_known_is_refused_with_what_there_is(tmp_path):
    assert call("graph", "p", "--state", tmp_path)[0] == 2
    assert call("graph", "p", "k", "--state", tmp_path)[0] == 2
    code, said = call("graph", tmp_path / "none.yaml")
    assert (code, "none.yaml" in said) == (2, True)
