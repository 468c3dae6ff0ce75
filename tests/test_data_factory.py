"""Pipelines of Data Factory in ``data-factory-testing-framework``: which activities run, with which commands.

It evaluates expressions and dependencies; it runs nothing, and has no queue. ``make datafactory`` runs these.
"""

import json
import os
import shlex
from pathlib import Path

import pytest

from jobs import ROOT
from spark_flow.export import data_factory
from spark_flow.export.tasks import Job
from spark_flow.jobfile.plan import draw

pytestmark = pytest.mark.datafactory


@pytest.fixture(scope="module")
def framework():
    """The framework, whose expressions are evaluated by .NET."""
    import dotnetcore2

    os.environ["DOTNET_ROOT"] = str(Path(dotnetcore2.__file__).parent / "bin")
    os.environ["DOTNET_SYSTEM_GLOBALIZATION_INVARIANT"] = "1"
    import data_factory_testing_framework as framework

    return framework


def job(name):
    return Job(file=f"conf/{name}", graph=draw(ROOT / "conf" / name, [], cwd=ROOT))


@pytest.fixture
def ran(framework, tmp_path):
    """Evaluate a pipeline; returns the commands in the order in which they would be started."""
    from data_factory_testing_framework.state import DependencyCondition, RunParameter, RunParameterType

    def ran(name, key, *, request_id="", how="job", branches=(), fails=()):
        made, _ = data_factory.pipeline(job(name), how=how, branches=[job(one) for one in branches])
        (tmp_path / "pipeline").mkdir(exist_ok=True)
        (tmp_path / "pipeline" / f"{made['name']}.json").write_text(json.dumps(made))
        tests = framework.TestFramework(framework.TestFrameworkType.DataFactory, root_folder_path=str(tmp_path))
        given = {"key": key, "request_id": request_id}
        parameters = [RunParameter(RunParameterType.Pipeline, each, value) for each, value in given.items()]
        commands = []
        for activity in tests.evaluate_pipeline(tests.get_pipeline_by_name(made["name"]), parameters):
            commands.append(shlex.split(activity.type_properties["command"].result))
            if any(word in commands[-1] for word in fails):
                activity.set_result(DependencyCondition.FAILED)
        assert all(words[:2] == ["spark-flow", "run"] for words in commands)
        return [words[3:] for words in commands]

    return ran


def test_the_parts_of_the_main_job_are_in_order(ran):
    assert ran("daily_flights.yaml", "2013-01-02", how="checkpoints") == [
        ["key=2013-01-02", "--until", "hours"],
        ["key=2013-01-02", "--until", "enrich"],
        ["key=2013-01-02"],
    ]
    again = ran("daily_flights.yaml", "2013-01-02", request_id="corrected")
    assert again == [["key=2013-01-02", "--request-id", "corrected"]]


@pytest.mark.parametrize(("key", "route"), [("2013-01-02", "old"), ("2013-01-03", "new")])
def test_a_choice_by_date_takes_one_route(ran, key, route):
    commands = ran("exclusive_choice.yaml", key, how="checkpoints")
    assert [words[2:] for words in commands] == [[f"migration/{route}"], ["asked/csv"], []]


@pytest.mark.parametrize(("key", "route"), [("2013-01-01", "first"), ("2013-01-02", "next")])
def test_the_default_is_what_no_condition_holds_for(ran, key, route):
    commands = ran("single_runner.yaml", key, how="checkpoints")
    assert [words[2:] for words in commands] == [["counted"], [f"past/{route}"], []]


def test_each_hour_is_a_branch_and_the_day_follows_though_one_has_failed(ran):
    commands = ran("flights_of_day.yaml", "2013-01-02", branches=["flights_by_hour.yaml"], fails=["key=2013-01-02T07"])
    assert [words[0] for words in commands[:-1]] == [f"key=2013-01-02T{hour:02d}" for hour in range(5, 24)]
    assert commands[-1] == ["key=2013-01-02", "flow.0.wait_for.timeout=0"]
