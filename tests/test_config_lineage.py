"""Lineage in a YAML file: what may be written, and how a slip is told."""

import pytest
import yaml

from spark_flow.errors import ConfigError
from spark_flow.jobfile import load
from spark_flow.lineage import Target

FILE = """
pipeline: p
key: k
state: /states/p
sources:
  plain: {format: json, path: d}
flow:
  - read: plain
  - write: {name: w, format: csv, path: x}
"""


@pytest.fixture
def job(tmp_path):
    def read(lineage, *overrides):
        (tmp_path / "job.yaml").write_text(f"{FILE}{lineage and f'lineage: {lineage}'}\n")
        return load(tmp_path / "job.yaml", overrides)

    return read


@pytest.mark.parametrize(
    ("lineage", "target"),
    [
        ("{}", Target(path="/states/p/lineage.jsonl")),
        ('{path: "${state}/events"}', Target(path="/states/p/events")),
        ("{transport: console, namespace: air}", Target(transport="console", namespace="air", path="")),
        (
            "{transport: http, url: 'https://service:5000/x', api_key: KEY, spark_events: true}",
            Target(transport="http", url="https://service:5000/x", api_key="KEY", spark_events=True),
        ),
    ],
)
def test_where_events_go(job, lineage, target):
    config = job(lineage)
    assert config.lineage.target(config.state) == target
    assert load_again(job, config) == config.lineage


def load_again(job, config):
    return job(yaml.safe_dump(config.lineage.model_dump(mode="json"), default_flow_style=True)).lineage


def test_without_it_there_is_none(job):
    assert job("").lineage is None


def test_an_override_adds_sparks_events(job):
    assert job("{}", "lineage.spark_events=true").lineage.spark_events is True


@pytest.mark.parametrize(
    ("lineage", "path", "says"),
    [
        ("{transport: htp}", "lineage.transport", "'http'"),
        ("{pathh: x}", "lineage.pathh", "'path'"),
        ("{transport: http, url: 'http://s', path: x}", "lineage.path", "transport http"),
        ("{transport: console, path: x}", "lineage.path", "transport console"),
        ("{transport: http}", "lineage.url", "nothing"),
        ("{url: 'http://s'}", "lineage.url", "transport file"),
        ("{transport: http, url: 'kafka://s'}", "lineage.url", "http or https"),
        ("{transport: http, url: 'http://s:port'}", "lineage.url", "http or https"),
        ("{transport: http, url: 'http://u:secret@s'}", "lineage.url", "api_key"),
        ("{transport: http, url: 'http://s?key=secret'}", "lineage.url", "api_key"),
        ("{api_key: KEY}", "lineage.api_key", "transport http"),
        ("{transport: http, url: 'http://s', api_key: 'secret-1'}", "lineage.api_key", "environment variable"),
        ("{path: 's3://bucket/x'}", "lineage.path", "local path"),
        ("{spark_events: 1}", "lineage.spark_events", "true or false"),
        ("{namespace: ''}", "lineage.namespace", "not empty"),
    ],
)
def test_a_slip_is_told_and_no_secret(job, lineage, path, says):
    with pytest.raises(ConfigError) as error:
        job(lineage)
    assert [problem.path for problem in error.value.problems] == [path]
    assert says in str(error.value)
    assert "secret" not in str(error.value)


def test_a_state_that_cannot_be_appended_to_needs_a_path(job):
    with pytest.raises(ConfigError) as error:
        job("{}", "state=s3://bucket/state")
    (problem,) = error.value.problems
    assert (problem.path, "path" in problem.fix) == ("lineage", True)
    assert job("{transport: console}", "state=s3://bucket/state").lineage
