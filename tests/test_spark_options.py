"""What spark-submit is given: the user's options as they are, our settings below them."""

import os
import sys
from pathlib import Path

import pytest

from spark_flow.cli import submit
from spark_flow.errors import EnvironmentTooOld, InvalidArgument
from spark_flow.spark import jars, options, session

PACKAGE = jars.delta_package()


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine with Java and Delta's jars, and no variables of ours or Spark's."""
    for name in ("SPARK_HOME", "SPARK_CONF_DIR", "MASTER", "DELTA", "LINEAGE", "SPARK_SUBMIT_OPTS", "SPARK_LOCAL_IP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(options, "check_java", lambda: 17)
    monkeypatch.setattr(options, "delta_jars", lambda: ("delta.jar",))
    monkeypatch.setattr(options, "listener_jars", lambda: ("listener.jar",))
    monkeypatch.setattr(options, "ensure_archive", lambda: None)
    monkeypatch.setattr(options.archive, "options", lambda: "-XX:SharedArchiveFile=x")


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    """Make a folder that ``SPARK_HOME`` names, with a Spark of some version."""

    def make(version="4.2.0", scala="2.13"):
        for name in ("bin/spark-submit", f"jars/spark-core_{scala}-{version}.jar"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch(mode=0o755)
        monkeypatch.setenv("SPARK_HOME", str(tmp_path))
        return tmp_path

    return make


def ours(*words):
    """Our options, as settings and the rest by name; and the variables."""
    made = options.ours(options.parse(words))
    pairs = list(zip(made.options[::2], made.options[1::2], strict=True))
    confs = dict(value.split("=", 1) for option, value in pairs if option == "--conf")
    return confs, {option: value for option, value in pairs if option != "--conf"}, made.variables


@pytest.mark.parametrize(
    ("words", "left", "settings", "program"),
    [
        ([], (), {}, ()),
        (["job.py", "--master", "x"], (), {}, ("job.py", "--master", "x")),
        (["--master=yarn", "job.py"], ("--master", "yarn"), {"spark.master": "yarn"}, ("job.py",)),
        (["-c", "a=b=c", "-v", "job.py"], ("-c", "a=b=c", "-v"), {"a": "b=c"}, ("job.py",)),
        (["--jars", "a.jar,b.jar", "j.py"], (), {"spark.jars": "a.jar,b.jar"}, ("j.py",)),
        (["--packages=g:a:1", "j.py"], (), {"spark.jars.packages": "g:a:1"}, ("j.py",)),
        (["-c", "x=a", "--master", "b"], ("-c", "x=a", "--master", "b"), {"x": "a", "spark.master": "b"}, ()),
        (["--queue", "q", "--supervise", "j.py"], ("--queue", "q", "--supervise"), {}, ("j.py",)),
        (["--name"], (), {}, ("--name",)),
    ],
)  # fmt: skip
def test_the_users_options_are_parsed_and_kept(words, left, settings, program):
    given = options.parse(words)
    assert (given.options, given.settings, given.program) == (left, settings, program)


def test_a_properties_file_in_each_of_sparks_forms(tmp_path):
    text = "# a comment\n\nspark.a  1\nspark.b=2 \nspark.c: x y\n spark.d = =\nspark.e\n"
    (tmp_path / "mine.conf").write_text(text)
    expected = {"spark.a": "1", "spark.b": "2", "spark.c": "x y", "spark.d": "=", "spark.e": ""}
    assert options.read_properties(str(tmp_path / "mine.conf")) == expected
    with pytest.raises(InvalidArgument, match="--properties-file"):
        options.parse(["--properties-file", str(tmp_path / "none"), "job.py"])


def test_on_one_machine_the_installed_pyspark_with_settings_for_few_cores(monkeypatch):
    confs, others, variables = ours("job.py")
    assert others == {"--jars": "delta.jar", "--master": "local[*]"}
    assert confs.items() >= {**session.DELTA, "spark.ui.enabled": "false", session.UDF_ARROW: "false"}.items()
    assert variables["SPARK_HOME"] == str(jars.pyspark_home())
    assert variables["PYSPARK_PYTHON"] == variables["PYSPARK_DRIVER_PYTHON"] == sys.executable
    assert variables["SPARK_SUBMIT_OPTS"] == f'-XX:SharedArchiveFile=x "{session.LOGGING}"'
    monkeypatch.setenv("MASTER", "local[1]")
    assert ours("job.py")[1]["--master"] == "local[1]"
    assert ours("--conf", "spark.master=spark://h:7077", "job.py")[1]["--master"] == "spark://h:7077"
    assert "spark.ui.enabled" not in ours("--master", "spark://h:7077", "job.py")[0]


def test_jars_are_added_to_the_users(monkeypatch, tmp_path):
    (tmp_path / "mine.conf").write_text("spark.jars mine.jar\nspark.sql.session.timeZone Europe/Rome\n")
    confs, others, _ = ours("--properties-file", str(tmp_path / "mine.conf"), "job.py")
    assert (others["--jars"], "spark.sql.session.timeZone" in confs) == ("mine.jar,delta.jar", False)
    monkeypatch.setenv("LINEAGE", "yes")
    assert ours("--jars", "mine.jar", "job.py")[1]["--jars"] == "mine.jar,delta.jar,listener.jar"
    monkeypatch.setenv("DELTA", "no")
    confs, others, _ = ours("job.py")
    assert (others["--jars"], set(confs) & set(session.DELTA)) == ("listener.jar", set())


def test_a_cluster_resolves_packages_and_keeps_its_own_master_and_logging(monkeypatch, cluster):
    home = cluster("4.2.3")
    confs, others, variables = ours("--packages", "g:mine:1", "job.py")
    assert others == {"--packages": f"g:mine:1,{PACKAGE}"}
    assert (session.UDF_ARROW in confs, "spark.jars.ivySettings" in confs) == (False, True)
    assert variables == {
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "SPARK_SUBMIT_OPTS": f'"{session.LOGGING}"',
    }
    (home / "conf").mkdir()
    (home / "conf" / "log4j2.properties").touch()
    assert ours("job.py")[2]["SPARK_SUBMIT_OPTS"] == ""
    monkeypatch.setenv("LINEAGE", "yes")
    confs, others, variables = ours("--deploy-mode", "cluster", "job.py")
    assert others["--packages"] == f"{PACKAGE},{jars.LISTENER_PACKAGE}"
    assert (confs["spark.driver.extraJavaOptions"], "spark.scheduler.allocation.file" in confs) == (
        session.OPENS,
        False,
    )


@pytest.mark.parametrize(("version", "scala"), [("4.1.0", "2.13"), ("4.2.0", "2.12")])
def test_another_spark_is_refused(cluster, version, scala):
    cluster(version, scala)
    with pytest.raises(EnvironmentTooOld) as error:
        ours("job.py")
    assert (error.value.where, f"{scala}-{version}" in error.value.found) == ("SPARK_HOME", True)


def test_a_folder_without_spark_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    with pytest.raises(EnvironmentTooOld, match="no bin/spark-submit"):
        ours("job.py")


def test_the_printed_options_need_no_quotes(monkeypatch):
    printed = submit.shown(["--conf", "spark.ui.port=4050"])
    words = printed.split(" ")
    assert words[:2] == ["--jars", "delta.jar"]
    assert words[-4:] == ["--driver-java-options", session.LOGGING, "--conf", "spark.ui.port=4050"]
    assert "'" not in printed
    local = {"--master", "spark.driver.host=127.0.0.1"}
    assert local.isdisjoint(words)  # they would take precedence over what is before them
    assert local <= set(submit.shown(["--master", "local[2]"]).split(" "))
    monkeypatch.setattr(options, "delta_jars", lambda: ("my folder/delta.jar",))
    with pytest.raises(InvalidArgument, match="blank"):
        submit.shown([])


@pytest.fixture
def replaced(monkeypatch):
    """What this process would be replaced by: its command and variables."""
    seen = []
    monkeypatch.setattr(os, "execvpe", lambda _, command, variables: seen.append((command, variables)))
    monkeypatch.setattr(submit.signal, "signal", lambda *_: None)
    return seen


def test_submit_runs_a_yaml_file_by_our_program_and_leaves_ctrl_c_to_it(replaced, tmp_path):
    submit.main(["--name", "n", "job.yaml", "key=a", "--debug"])
    ((command, variables),) = replaced
    assert command[0] == str(jars.pyspark_home() / "bin" / "spark-submit")
    assert command[-5:] == ["n", submit.run.__file__, "job.yaml", "key=a", "--debug"]
    assert (variables["SPARK_FLOW_SIGINT"], variables["SPARK_FLOW_LOGS"]) == ("job", "info")

    Path(tmp_path, "other.py").write_text("print(1)")
    submit.main([str(tmp_path / "other.py")])
    assert "SPARK_FLOW_SIGINT" not in replaced[1][1]


def test_submit_gives_the_files_own_settings_below_the_users(replaced, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_X", "hidden")
    file = tmp_path / "job.yaml"
    file.write_text(
        "pipeline: p\nkey: ???\nsources: {in: {format: json, path: in}}\n"
        "spark: {spark.ui.port: 4050, spark.sql.shuffle.partitions: 9, spark.x: '${oc.env:SECRET_X}'}\n"
        "flow: [{read: in}, {write: {name: out, format: csv, path: out}}]\n"
    )
    submit.main(["--conf", "spark.ui.port=1", str(file), "key=a"])
    command = replaced[0][0]
    options = [command[at + 1] for at, word in enumerate(command) if word == "--conf"]
    mine = [each for each in options if each.startswith(("spark.ui.port", "spark.sql.shuffle", "spark.x"))]
    assert mine[-2:] == ["spark.sql.shuffle.partitions=9", "spark.ui.port=1"]
    assert not any(each.startswith("spark.x") for each in mine)


def test_submit_without_a_program_or_with_a_wrong_spark_is_one_line(capsys, monkeypatch, tmp_path):
    assert submit.main([]) == 2
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    assert submit.main(["job.yaml"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_deltas_library_has_sparks_version_in_its_name_since_4_1(monkeypatch):
    monkeypatch.setattr(jars, "_versions", lambda: ("4.0.1", "4.0"))
    assert jars.delta_package() == "io.delta:delta-spark_2.13:4.0.1"
    monkeypatch.setattr(jars, "_versions", lambda: ("4.4.0", "4.2"))
    assert jars.delta_package() == "io.delta:delta-spark_4.2_2.13:4.4.0"
