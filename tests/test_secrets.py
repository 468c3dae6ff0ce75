"""A secret is neither recorded nor shown, and a changed one reruns nothing."""

import json
import logging
import re
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import spark_flow as sf
from spark_flow import jobfile as files
from spark_flow.cli.job import main
from spark_flow.core import fingerprint, secrets
from spark_flow.core.secrets import HIDDEN, Redactor, is_secret, redact, resolved
from spark_flow.engine.mode import Mode
from spark_flow.engine.node import Node
from spark_flow.errors import ConfigError, InvalidArgument
from spark_flow.ledger import DeltaLedger
from spark_flow.storage.sink_protocol import Written

SECRET_NAMES = re.findall(
    r"\S+",
    """
password DB_PASSWORD passwd options.pwd dbPwd secret client_secret token sas_token bearerToken credentials auth
proxy.auth sig signature X-Amz-Signature account.key fs.azure.account.key.a.dfs.core.windows.net access_key
fs.s3a.access.key fs.s3a.secret.key apiKey api-key private_key privateKey PGPASSWORD connection_string
SharedAccessSignature fs.azure.sas.container.account kafka.ssl.key.password passphrase ssl.key.passphrase
""",
)
OTHER_NAMES = re.findall(
    r"\S+",
    """
key keys path author authority token_column password_file auth.type secret_scope primary_key partition.key signal
passengers design_id assignment tokenizer max_tokens header fs.azure.account.auth.type sequence
""",
)


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_a_secret_is_known_by_its_name(name):
    assert is_secret(name)
    assert is_secret(name.upper()) or not name.islower()


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_what_only_sounds_like_one_is_none(name):
    assert not is_secret(name)


@pytest.mark.parametrize(
    "text",
    [
        "jdbc:postgresql://h/db?user=me&password=S3CRET&ssl=true",
        "jdbc:sqlserver://h:1433;user=me;password=S3CRET;encrypt=true",
        "jdbc:oracle:thin:scott/S3CRET@//h:1521/x",
        "jdbc:postgresql://me:S3CRET@h/db",
        "s3a://AKID:S3CRET/with+slash@bucket/x",
        "https://a.blob.core.windows.net/c?sv=1&sig=S3CRET%3D&se=2",
        "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=S3CRET==;EndpointSuffix=x",
        "Authorization: Bearer S3CRET-and-more",
        "authorization: Basic S3CRET==",
        'org.x.PlainLoginModule required username="u" password="S3CRET and more";',
        '{"password": "S3CRET", "n": 1}',
        "{'token': 'S3CRET'}",
        "--conf spark.hadoop.fs.s3a.secret.key=S3CRET",
        "-----BEGIN RSA PRIVATE KEY-----\nS3CRET\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nS3CRET, cut off",
        "https://S3CRET@github.com/x.git",
    ],
)
def test_a_secret_is_known_by_its_look(text):
    shown = redact(f"before {text} after")
    assert "S3CRET" not in shown
    assert HIDDEN in shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "abfss://container@account.dfs.core.windows.net/flights/date=2013-01-02",
        "hdfs://namenode:8020/a/b@c",
        "http://host:80/x@y?z=1",
        "unexpected token: SELECT",
        "SELECT token, password FROM t",
        "key=2013-01-02 rows=5 path=/a/b",
        "vars.password=${oc.env:PGPASSWORD}",
        "file:///data/x y/é.json",
    ],
)
def test_what_is_no_secret_stays_as_it_is(text):
    assert redact(text) == text


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_redacting_twice_is_redacting_once(text):
    assert redact(redact(text)) == redact(text)


def test_a_long_text_is_read_in_no_time():
    text = "a" * 200_000 + " b='" + "c.d-" * 50_000
    assert len(redact(text)) == len(text)


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=4, max_size=30).filter(lambda text: len(text.strip()) >= 4 and "*" not in text))
def test_what_was_learned_is_hidden_however_it_is_quoted(value):
    hide = Redactor([value])
    value = value.strip()
    for text in (value, repr(value), json.dumps(value), f"http://h/?q={value}"):
        assert value.lower() in secrets._NOT_SECRET or value not in hide(text)


def test_facts_keep_what_is_read_back():
    hide = Redactor(["lake"])
    facts = {"path": "/out/lake", "lease": {"token": 7}, "predicate": "`token` = 'x'", "why": "lake", "pwd": "p"}
    kept = {"path": "/out/lake", "lease": {"token": 7}, "predicate": "`token` = 'x'", "why": HIDDEN, "pwd": HIDDEN}
    assert hide.facts(facts) == kept


# --- from the environment -----------------------------------------------------------------------------------------


def test_a_reference_is_looked_up_when_it_is_used(monkeypatch):
    given = {"password": "${oc.env:DB_PW}", "n": 1, "list": ["x${oc.env:DB_PW}"], "else": "${oc.env:NONE_SUCH,'d'}"}
    monkeypatch.setenv("DB_PW", "one")
    assert resolved(given) == {"password": "one", "n": 1, "list": ["xone"], "else": "d"}
    monkeypatch.setenv("DB_PW", "two")
    assert resolved(given)["password"] == "two"
    monkeypatch.delenv("DB_PW")
    with pytest.raises(InvalidArgument) as refused:
        resolved(given)
    assert "DB_PW" in str(refused.value)


FILE = """
pipeline: p
vars: {pw: "${oc.env:DB_PW}", region: eu}
sources:
  s:
    { format: json, path: "in/${vars.region}", schema: id INT,
      options: {password: "${vars.pw}", url: "x:${oc.env:DB_PW}"} }
flow:
  - read: s
  - step: {sql: "SELECT * FROM {frame}", name: a, with: {deep: {list: ["${oc.env:DB_PW}"]}}}
  - write: {name: w, format: delta, path: "${output}/t", options: {a: "${vars.region}"}}
"""


def test_a_file_keeps_references_in_options_and_arguments(tmp_path, monkeypatch):
    monkeypatch.setenv("DB_PW", "hunter2-and-more")
    (tmp_path / "f.yaml").write_text(FILE)
    loaded = files.load(tmp_path / "f.yaml", ["key=k"])
    source, (_, step, write) = loaded.sources["s"], loaded.flow
    assert source.options == {"password": "${oc.env:DB_PW}", "url": "x:${oc.env:DB_PW}"}
    assert step.with_ == {"deep": {"list": ["${oc.env:DB_PW}"]}}
    assert (source.path, write.path, write.options) == ("in/eu", "out/t", {"a": "eu"})
    assert "hunter2-and-more" not in repr(loaded)
    assert loaded.secrets == ("hunter2-and-more",)


def test_a_variable_that_is_not_set_is_refused_when_the_file_is_loaded(tmp_path, monkeypatch):
    monkeypatch.delenv("DB_PW", raising=False)
    (tmp_path / "f.yaml").write_text(FILE)
    with pytest.raises(ConfigError) as refused:
        files.load(tmp_path / "f.yaml", ["key=k"])
    assert {p.path for p in refused.value.problems} >= {"vars.pw", "flow[1].step.with.deep.list[0]"}


def test_a_plain_value_of_the_environment_hides_no_path(tmp_path, monkeypatch):
    monkeypatch.setenv("OUT_DIR", str(tmp_path / "some-folder"))
    text = FILE.replace("${oc.env:DB_PW}", "x").replace("${output}/t", "${oc.env:OUT_DIR}/t")
    (tmp_path / "f.yaml").write_text(text.replace("{a: ", "{b: '${oc.env:OUT_DIR}', a: "))
    assert str(tmp_path / "some-folder") not in files.load(tmp_path / "f.yaml", ["key=k"]).secrets


def test_a_mistake_about_a_secret_does_not_show_it(tmp_path):
    (tmp_path / "f.yaml").write_text(FILE.replace("${oc.env:DB_PW}", "x").replace("${vars.pw}", "[hunter2]"))
    overrides = [
        "key=k",
        "sources.s.options.password=[hunter2]",
        "sources.s.path=jdbc:x://a:hunter2@h/",
        "nope=hunter2",
    ]
    with pytest.raises(ConfigError) as refused:
        files.load(tmp_path / "f.yaml", overrides)
    assert "sources.s.options.password" in str(refused.value)
    assert "hunter2" not in str(refused.value)


# --- fingerprints -------------------------------------------------------------------------------------------------


def _use(frame, **_):
    return frame


def _partial(password):
    import functools

    return functools.partial(_use, password=password)


def _closure(api_token):
    def step(frame):
        return frame, api_token

    return step


CREDENTIALS = {
    "a source's option": lambda x: sf.source("json", "/in", options={"password": x, "header": "true"}).fingerprint,
    "a source's address": lambda x: sf.source("json", "/in", options={"url": f"jdbc:x://u:{x}@h/d"}).fingerprint,
    "a Delta sink's option": lambda x: sf.delta("/out", options={"account.key": x}).fingerprint,
    "a folder sink's option": lambda x: sf.csv("/out", options={"sig": x}).fingerprint,
    "an argument": lambda x: sf.step(_use, password=x).fingerprint,
    "an argument's options": lambda x: sf.step(_use, options={"user": "u", "pwd": x}).fingerprint,
    "an argument's address": lambda x: sf.step(_use, url=f"jdbc:x://h/d?user=u&password={x}").fingerprint,
    "an argument of functools.partial": lambda x: sf.step(_partial(x), name="s").fingerprint,
    "a variable around a function": lambda x: sf.step(_closure(x)).fingerprint,
}


@pytest.mark.parametrize("place", CREDENTIALS)
def test_a_credential_is_no_part_of_a_fingerprint(place):
    assert CREDENTIALS[place]("hunter2") == CREDENTIALS[place]("hunter3")


CONTENT = {
    "an option": lambda x: sf.source("json", "/in", options={"header": x}).fingerprint,
    "a host": lambda x: sf.step(_use, url=f"jdbc:x://u:p@{x}/d?e=a@b").fingerprint,
    "a column named token": lambda x: sf.step(_use, names={"token": x}).fingerprint,
    "a query of the user's": lambda x: (
        sf.step(sf.sql(f"SELECT * FROM {{frame}} WHERE password = '{x}'"), name="q").fingerprint
    ),
    "a column's name": lambda x: sf.step(_use, token_column=x).fingerprint,
    "a function named token": lambda x: sf.step(_use, token={"a": _use, "b": len}[x]).fingerprint,
}


@pytest.mark.parametrize("place", CONTENT)
def test_what_only_looks_like_a_credential_counts(place):
    assert CONTENT[place]("a") != CONTENT[place]("b")


def test_settings_without_credentials_have_the_fingerprint_that_they_had():
    options = {"header": "true", "sep": ";"}
    made_of = ("json", ("/in",), None, "fail", options, None)
    assert sf.source("json", "/in", options=options).fingerprint == fingerprint.of(made_of)


# --- runs ---------------------------------------------------------------------------------------------------------

ALPHABET = string.ascii_letters + string.digits + "-_.!$*()"


def everything(folder):
    """All bytes below a folder, data files decompressed by nobody: texts of the ledger stand in them as they are."""
    return b"\0".join(file.read_bytes() for file in Path(folder).rglob("*") if file.is_file())


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(secret=st.text(ALPHABET, min_size=8, max_size=24))
def test_what_a_run_is_given_and_fails_with_is_recorded_nowhere(memory_ledger, secret):
    secret = f"q{secret}Z"
    source = sf.source("json", "/none", schema="id INT", options={"pwd": secret})
    seen = []

    def fail(_):
        raise ValueError(f"cannot connect to jdbc:x://h/d?user=u&password={secret} with {secret!r}")

    run = sf.Run.open(
        "p",
        "k",
        ledger=memory_ledger,
        state="/none",
        observers=[lambda *a: seen.append(a)],
        mode=Mode(command={"overrides": [f"vars.password={secret}"]}, request_id=f"asked by x://u:{secret}@h"),
    )
    sf.read(run, "s", source)
    with pytest.raises(sf.errors.RunError) as failed, run:
        run.once(Node(name="n"), fail)
    run.skip("other", "step", f"because of {secret}")
    texts = [repr(memory_ledger.read()), json.dumps(run.summary()), repr(seen), str(failed.value)]
    assert [secret in text for text in texts] == [False] * 4


def test_values_given_to_a_run_are_hidden(memory_ledger):
    with sf.Run.open("p", "k", ledger=memory_ledger, state="/none", mode=Mode(secrets=Redactor(["hunter2"]))) as run:
        run.once(Node(name="n"), lambda _: Written(reason="by hunter2", detail={"why": ["hunter2"], "path": "/x"}))
    assert "hunter2" not in repr(memory_ledger.read()) + json.dumps(run.summary())


JOB = """
pipeline: p
state: "{root}/state"
output: "{root}/out"
vars: {{pw: "${{oc.env:DB_PW}}"}}
lineage: {{transport: file, path: "{root}/lineage.jsonl"}}
sources:
  s:
    format: json
    path: "{root}/in"
    schema: "id INT"
    options: {{pwd: "${{vars.pw}}", url: "jdbc:x://u:{literal}@h/d", account.key: "{literal}", x: "${{oc.env:DB_PW}}"}}
flow:
  - read: s
  - step:
      run: secret_steps:connect
      with: {{private_key: "{literal}", url: "jdbc:x://h/d?password=${{oc.env:DB_PW}}", other: "${{vars.pw}}"}}
      restart: true
  - write: {{name: w, format: json, path: "${{output}}/t", options: {{sig: "{literal}", auth: "${{vars.pw}}"}}}}
  - publish: {{dataset: d, tables: [w]}}
"""

STEPS = """
import json, os
def connect(frame, *, private_key, url, other):
    with open(os.environ["SEEN"], "a") as file:
        file.write(json.dumps([private_key, url, other]) + "\\n")
    if os.environ["MODE"] == "fail":
        raise ValueError(f"no connection to {url} by {other} and {private_key!r}")
    return frame
"""


@pytest.fixture
def job(spark, tmp_path, monkeypatch, capfd, caplog):
    """Run a job whose file has secrets at every place that may hold one; returns its exit code and all it said."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.json").write_text('{"id": 1}\n')
    (tmp_path / "jobs" / "secret_steps.py").write_text(STEPS)
    monkeypatch.setenv("SEEN", str(tmp_path / "seen.txt"))
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO, "spark_flow")

    def run(env, literal, *more, mode=""):
        monkeypatch.setenv("DB_PW", env)
        monkeypatch.setenv("MODE", mode)
        config = tmp_path / "f.yaml"
        config.write_text(JOB.format(root=tmp_path, literal=literal))
        summary = tmp_path / "summary.json"
        words = ["--config", str(config), "key=2013-01-02", "--summary-json", str(summary), *more]
        code = main(words, job=str(tmp_path / "jobs" / "x.py"))
        said = "".join(capfd.readouterr()) + caplog.text + summary.read_text()
        lineage = tmp_path / "lineage.jsonl"
        return code, said + (lineage.read_text() if lineage.exists() else ""), json.loads(summary.read_text())

    run.root = tmp_path
    return run


@pytest.mark.spark
def test_a_jobs_secrets_reach_its_step_and_nothing_else_and_a_changed_one_reruns_nothing(job):
    env, literal, other = "q7-of-the-env", "q8-of-the-file", "q9-overridden"
    code, said, _ = job(env, literal, mode="fail")
    plan_code, planned, _ = job(env, literal, "--plan")
    assert (code, plan_code) == (1, 0)
    assert "secret_steps" in said or "connect" in said
    code, done, first = job(env, literal, f"vars.pw={other}", "vars.pw=${oc.env:DB_PW}")
    assert (code, first["state"]) == (0, "succeeded")
    code, again, second = job(f"{env}-new", f"{literal}-new", "vars.pw=${oc.env:DB_PW}")
    assert (code, second["state"]) == (0, "reused")
    used = [json.loads(line) for line in (job.root / "seen.txt").read_text().splitlines()]
    assert [literal, f"jdbc:x://h/d?password={env}", env] in used
    everywhere = said + planned + done + again
    written = everything(job.root / "state") + everything(job.root / "out")
    for secret in (env, literal, other):
        assert secret not in everywhere
        assert secret.encode() not in written
    events = DeltaLedger(str(job.root / "state")).read()
    commands = [event.detail["command"] for event in events if "command" in event.detail]
    assert [command.get("withheld") for command in commands] == [None, ["vars.pw"], None]
    assert commands[-1]["overrides"] == ["key=2013-01-02", "vars.pw=${oc.env:DB_PW}"]
