"""publish, wait_for and trigger in a YAML file: what may be written, and how a slip is told."""

import pytest

from spark_flow.errors import ConfigError
from spark_flow.jobfile import load
from spark_flow.storage.markers import MARKERS

HEAD = "pipeline: p\nkey: 2013-01-02\noutput: o\n"
WRITE = "write: {name: w, format: csv, path: x}"


@pytest.fixture
def job(tmp_path):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "c.py").touch()
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "c.yaml").write_text("pipeline: c\n")

    def read(*entries, head=HEAD, overrides=()):
        (tmp_path / "job.yaml").write_text(head + "flow:\n" + "".join(f"  - {entry}\n" for entry in entries))
        return load(tmp_path / "job.yaml", overrides, beside=tmp_path / "jobs")

    return read


def test_a_consumer_needs_no_source(job):
    config = job("wait_for: hours", WRITE, "publish: days")
    wait, _, publish = config.flow
    assert (wait.dataset, wait.keys, wait.on_partial, wait.nodes()) == (("hours",), "same", "pass_on", ("wait/hours",))
    assert (publish.dataset, publish.nodes()) == ("days", ("marker/days",))
    assert "delta" in config.formats()


def test_markers_are_with_the_outputs_unless_it_is_said(job):
    assert job("wait_for: hours", WRITE).markers == "o/markers"
    assert job("wait_for: hours", WRITE, overrides=["output=elsewhere"]).markers == "elsewhere/markers"
    assert job("wait_for: hours", WRITE, overrides=["markers=m"]).markers == "m"
    assert MARKERS == "out/markers"


def test_all_that_can_be_said_of_a_wait(job):
    wait = job(
        "wait_for: {dataset: [east, west], keys: 'last_days(7)', table: a, also: b, markers: m, roots: [r], "
        "require: at_least(0.5), on_failed: ignore, on_skipped: wait, on_partial: refuse, timeout: 0, interval: 0.5, "
        "backoff: 1, max_interval: 9, jitter: 0, name: both}",
        WRITE,
    ).flow[0]
    assert (wait.dataset, wait.also, wait.roots, wait.nodes()) == (("east", "west"), ("b",), ("r",), ("both",))
    assert (wait.polling.timeout, wait.polling.interval, wait.polling.max_interval) == (0, 0.5, 9)


def test_a_job_to_trigger_is_looked_up(job):
    trigger = job("wait_for: hours", WRITE, "trigger: c.py").flow[2]
    assert trigger.nodes() == ("trigger/c",)
    assert trigger.allow == ("succeeded", "reused", "skipped")
    assert job("wait_for: hours", WRITE, "trigger: {job: c.py, pipeline: c, allow: failed}").flow[2].allow == (
        "failed",
    )


@pytest.mark.parametrize(
    ("entries", "path", "words"),
    [
        (["wait_for: {dataset: ../x}", WRITE], "flow[0].wait_for.dataset", "1 to 128"),
        (["wait_for: {dataset: []}", WRITE], "flow[0].wait_for.dataset", "at least 1"),
        (["wait_for: {dataset: a, keys: tomorrow}", WRITE], "flow[0].wait_for.keys", "last_days"),
        (["wait_for: {dataset: a, keys: 'hours_of_day(9..5)'}", WRITE], "flow[0].wait_for.keys", "hours_of_day"),
        (["wait_for: {dataset: a, timeout: -1}", WRITE], "flow[0].wait_for.timeout", "0 or more"),
        (["wait_for: {dataset: a, timeout: .nan}", WRITE], "flow[0].wait_for.timeout", "a number"),
        (["wait_for: {dataset: a, timeout: yes}", WRITE], "flow[0].wait_for.timeout", "number"),
        (["wait_for: {dataset: a, interval: 0}", WRITE], "flow[0].wait_for.interval", "or more"),
        (["wait_for: {dataset: a, backoff: 0.5}", WRITE], "flow[0].wait_for.backoff", "1 or more"),
        (["wait_for: {dataset: a, require: half}", WRITE], "flow[0].wait_for.require", "at_least"),
        (["wait_for: {dataset: a, on_partial: fail}", WRITE], "flow[0].wait_for.on_partial", "pass_on"),
        (["wait_for: {dataset: a, on_failed: skip}", WRITE], "flow[0].wait_for.on_failed", "ignore"),
        (["wait_for: {dataset: a, tabel: b}", WRITE], "flow[0].wait_for.tabel", "table"),
        (["wait_for: {dataset: a, also: [b, b]}", WRITE], "flow[0].wait_for.also", "each"),
        (["wait_for: a", "wait_for: a", WRITE], "flow[1].wait_for", "wait/a"),
        (["wait_for: {dataset: a, also: t}", "wait_for: {dataset: b, also: t}", WRITE], "flow[1].wait_for.also", "'t'"),
        (["wait_for: a", "publish: b", WRITE], "flow[1].publish", "a write before it"),
        (["wait_for: a", WRITE, "publish: {dataset: b, state: failed}"], "flow[2].publish.state", "ready"),
        (["wait_for: a", WRITE, "publish: b", "publish: b"], "flow[3].publish", "marker/b"),
        (["wait_for: a", "transaction: [publish: b]", WRITE], "flow[1].transaction[0].publish", "out of"),
        (["wait_for: a", WRITE, "publish: b", "publish: {dataset: b, name: n}"], "flow[3].publish.dataset", "once"),
        (["wait_for: a", WRITE, "publish: {dataset: b, tables: [x]}"], "flow[2].publish.tables", ", w"),
        (["wait_for: a", WRITE, "trigger: {job: c.py, overrides: [key=1]}"], "flow[2].trigger.job", "the run's"),
        (["wait_for: a", WRITE, "trigger: gone.py"], "flow[2].trigger", "no such file"),
        (["wait_for: a", WRITE, "trigger: {job: c.py, pipeline: d}"], "flow[2].trigger.job", "pipeline 'c'"),
        (["wait_for: a", WRITE, "trigger: {job: c.py, config: no.yaml}"], "flow[2].trigger.job", "no.yaml"),
        (["wait_for: a", WRITE, "trigger: {job: c.py, allow: done}"], "flow[2].trigger.allow", "succeeded"),
        (["wait_for: a", WRITE, "trigger: {job: c.py, allow: []}"], "flow[2].trigger.allow", "at least 1"),
    ],
)
def test_slips(job, entries, path, words):
    with pytest.raises(ConfigError) as told:
        job(*entries)
    assert any(p.path.startswith(path) and words in str(p) for p in told.value.problems), str(told.value)


def test_a_table_that_has_a_sources_name(job):
    head = HEAD + "sources:\n  t: {format: json, path: d}\n"
    with pytest.raises(ConfigError, match="'t' again"):
        job("wait_for: {dataset: a, also: t}", WRITE, head=head)


def test_a_publish_may_follow_a_write_in_a_road(job):
    road = f"{{flow: [{WRITE}, {{publish: b}}]}}"
    assert job("wait_for: a", f"exclusive_choice: {{name: c, default: r, routes: {{r: {road}}}}}")


@pytest.mark.parametrize(
    ("sink", "how"),
    [
        ("mode: merge, 'on': id", "mode merge"),
        ("mode: append", "mode append"),
        ("replace_where: n > 0", "no column of the key"),
        ("mode: replace", "no column of the key"),
    ],
)
def test_a_marker_of_a_table_that_holds_other_keys_is_refused_before_anything_runs(tmp_path, sink, how):
    (tmp_path / "job.yaml").write_text(
        "pipeline: p\nkey: k\nsources: {in: {format: json, path: in}}\n"
        f"flow: [{{read: in}}, {{write: {{name: lake, format: delta, path: out, {sink}}}}}, {{publish: days}}]\n"
    )
    with pytest.raises(ConfigError) as wrong:
        load(tmp_path / "job.yaml")
    assert [problem.found for problem in wrong.value.problems] == [f"lake with {how}"]
