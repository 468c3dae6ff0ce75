"""URIs of object stores: what is refused, and what each engine is given."""

import os

import pytest

from spark_flow.errors import ConfigError, InvalidArgument, InvalidPath
from spark_flow.jobfile import load
from spark_flow.jobfile.request import JobRequest
from spark_flow.storage import files, stores


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ALLOW_HTTP"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "path", ["dbfs:/x", "dbfs://x", "S3A://bucket/x", "http://host/x", "S3:/bucket/x", "wasbs://c@a/x"]
)
def test_a_scheme_that_is_not_known_is_refused_by_name(path):
    for use in (files.absolute, files.of, files.for_spark, files.for_deltalake):
        with pytest.raises(InvalidPath) as refused:
            use(path)
        assert "abfss" in refused.value.why


@pytest.mark.parametrize("path", ["/a:b/c", "a:b", "out/a:/b", "file:/x", "file:///x"])
def test_a_local_path_may_have_a_colon(path):
    assert not files.is_uri(path)


def test_one_uri_for_each_engine():
    for uri in ("s3://bucket/a/b/", "s3a://bucket/a/b"):
        assert (files.absolute(uri), files.for_deltalake(uri)) == ("s3://bucket/a/b",) * 2
        assert files.for_spark(files.absolute(uri)) == "s3a://bucket/a/b"
    assert files.of("s3a://bucket/a/b")[1] == "bucket/a/b"


def test_spark_s_own_settings_become_the_variables_of_the_others():
    given = {"access.key": "me", "secret.key": "s", "session.token": "t", "endpoint.region": "eu-central-1"}
    own = {f"spark.hadoop.fs.s3a.{name}": value for name, value in given.items()}
    assert stores.variables({**own, "spark.sql.shuffle.partitions": "2"}) == {
        "AWS_ACCESS_KEY_ID": "me",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_SESSION_TOKEN": "t",
        "AWS_REGION": "eu-central-1",
    }
    plain = {"spark.hadoop.fs.s3a.endpoint": "store:9000", "spark.hadoop.fs.s3a.connection.ssl.enabled": "false"}
    assert stores.variables(plain) == {"AWS_ENDPOINT_URL": "http://store:9000", "AWS_ALLOW_HTTP": "true"}
    assert stores.variables({}) == {}


def test_a_file_that_is_loaded_to_be_run_sets_the_variables_above_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_REGION", "other")
    (tmp_path / "job.yaml").write_text(
        "pipeline: p\nkey: k\nspark: {spark.hadoop.fs.s3a.endpoint.region: eu-central-1}\n"
        "sources: {a: {format: json, path: in}}\nflow: [read: a, write: {name: lake, format: delta, path: out}]\n"
    )
    JobRequest(job=tmp_path / "job.yaml", config=tmp_path / "job.yaml").load()
    assert os.environ["AWS_REGION"] == "eu-central-1"


def test_spark_is_given_the_endpoint_and_no_credential(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    assert stores.spark_settings(["s3"]) == {}
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store:9000")
    with pytest.raises(InvalidArgument, match="AWS_ALLOW_HTTP"):
        stores.spark_settings(["s3a"])
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert stores.spark_settings(["s3", "file"]) == {
        "spark.hadoop.fs.s3a.endpoint": "http://store:9000",
        "spark.hadoop.fs.s3a.endpoint.region": "eu-central-1",
        "spark.hadoop.fs.s3a.path.style.access": "true",
        "spark.hadoop.fs.s3a.connection.ssl.enabled": "false",
    }
    assert stores.spark_settings(["gs", ""]) == {}


@pytest.mark.parametrize("name", ["state", "output", "sources.s.path"])
def test_a_file_with_an_unknown_scheme_is_refused_with_its_place(tmp_path, name):
    (tmp_path / "job.yaml").write_text(
        "pipeline: p\nkey: k\nsources: {s: {format: json, path: in, schema: n INT}}\n"
        "flow: [{read: s}, {write: {name: w, format: json, path: '${output}/w'}}]\n"
    )
    with pytest.raises(ConfigError) as wrong:
        load(tmp_path / "job.yaml", [f"{name}=dbfs:/x"])
    assert name in [problem.path for problem in wrong.value.problems]
