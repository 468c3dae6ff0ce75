"""The pages are as the code is: references are made from it, Python runs, job files load, links lead somewhere."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import make_reference
import pytest
from typer.testing import CliRunner

import spark_flow as sf
from spark_flow.cli.app import app
from spark_flow.jobfile import load

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
PARTS = {"vars: {url:": "the keys of a file that hold credentials"}
"""YAML that is no whole file: how it begins, and why."""


def name_of(page):
    return str(page.relative_to(ROOT))


def blocks(page, language):
    """The code of a page in a language, each with the output that follows it."""
    return [(code, output) for kind, code, output in BLOCK.findall(page.read_text()) if kind == language]


def pages_with(language):
    return [pytest.param(page, id=name_of(page)) for page in PAGES if blocks(page, language)]


@pytest.mark.parametrize("name", make_reference.PAGES)
def test_a_reference_is_that_of_the_code(name):
    made = make_reference.PAGES[name]()
    same = (make_reference.FOLDER / name).read_text(encoding="utf-8") == made
    assert same, f"docs/reference/{name} is not that of the code: run `make docs`, and commit it"


def test_every_public_name_is_in_the_reference():
    headings = re.findall(r"^### (\w+)$", (make_reference.FOLDER / "api.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(sf.__all__)
    text = (make_reference.FOLDER / "api.md").read_text()
    assert re.findall(r"Built-in immutable|str\(object=|int\(\[x\]\)|bool\(x\)", text) == []  # of default values


def test_every_key_of_a_file_is_described():
    models = [model for found in make_reference.places().values() for _, model in found]
    keys = [(model, key) for model in models for key in make_reference.fields(model)]
    assert len(keys) > 100
    assert [f"{model.__name__}.{key}" for model, key in keys if not make_reference.described(model).get(key)] == []


def prose(page):
    """A page's text without code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE))


def anchors(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return {make_reference.slug(heading.replace("`", "")) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


def dead_links(page):
    text = prose(page)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.MULTILINE)
    for target in targets:
        path, _, anchor = target.partition("#")
        at = (page.parent / path).resolve() if path else page
        if "://" not in target and (not at.exists() or (anchor and anchor not in anchors(at))):
            yield f"{name_of(page)}: {target}"


def test_every_link_leads_somewhere():
    assert [dead for page in PAGES for dead in dead_links(page)] == []


def test_a_dead_link_is_found(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "a.md").write_text("# One\n[1](b.md) [2](a.md#one) [3](#two) [4](https://x) `[5](c.md)`\n\n[6]: d.md\n")
    assert list(dead_links(tmp_path / "a.md")) == ["a.md: b.md", "a.md: #two", "a.md: d.md"]


def test_every_test_that_a_page_names_exists():
    folders = ("tests", "integrations/airflow/tests")
    tests = {path.stem: path.read_text() for folder in folders for path in (ROOT / folder).glob("test_*.py")}
    functions = {name for text in tests.values() for name in re.findall(r"^def (test_\w+)\(", text, re.MULTILINE)}
    named = [(page, one) for page in PAGES for one in re.findall(r"`(test_\w+(?:\.py)?(?:::\w+)?)`", page.read_text())]
    unknown = []
    for page, one in named:
        module, _, function = one.partition("::")
        within = f"def {function}(" in tests.get(module.removesuffix(".py"), "")
        if not (within if function else module.removesuffix(".py") in {*tests, *functions}):
            unknown.append(f"{name_of(page)}: {one}")
    assert len(named) > 50
    assert unknown == []


def test_the_site_builds_without_a_warning(tmp_path):
    """Without mkdocs-material, which is in the extra ``dev``, this fails."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "patterns" / "local-sequencer" / "index.html").is_file()


@pytest.mark.parametrize("page", pages_with("yaml"))
def test_the_job_files_of_a_page_load(page, tmp_path, monkeypatch):
    monkeypatch.setenv("PRICES_URL", "jdbc:postgresql://db/shop")
    monkeypatch.syspath_prepend(ROOT / "jobs")
    (tmp_path / "steps.py").write_text("def with_price(frame, prices, rates): ...\n")
    (tmp_path / "billing.py").write_text("def order_report(*, idempotency_key, day): ...\n")
    for text, _ in blocks(page, "yaml"):
        if not text.startswith(tuple(PARTS)):
            (tmp_path / "job.yaml").write_text(text)
            assert load(tmp_path / "job.yaml", ["key=2013-01-02"], beside=tmp_path).key == "2013-01-02"


def test_the_main_job_is_shown_as_it_is():
    (shown,) = [text for text, _ in blocks(ROOT / "docs" / "job-files.md", "yaml") if "pipeline: daily_flights" in text]
    assert shown in (ROOT / "conf" / "daily_flights.yaml").read_text()


def lasting(printed):
    """The lines of an output without times, and without which branch was the slowest, in any order."""
    return sorted(line.rstrip() for line in re.sub(r"; slowest .*|\d+(\.\d+)? s\b", "", printed).splitlines())


@pytest.mark.spark
@pytest.mark.parametrize("page", pages_with("python"))
def test_the_python_of_a_page_runs(page, request, spark, tmp_path, monkeypatch, capsys):
    """All blocks of a page, one after another; what is printed is what the page shows."""
    if page.stem == "airflow":
        pytest.skip("its own tests run it: make airflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "data").symlink_to(ROOT / "data")
    (examples,) = [code for code, _ in blocks(ROOT / "docs/patterns/index.md", "python")]
    (tmp_path / "examples.py").write_text(examples)
    names = {}
    for at, (code, output) in enumerate(blocks(page, "python")):
        path = tmp_path / f"block{at}.py"  # a file: a step's fingerprint is made of its source
        path.write_text(code)
        exec(compile(code, str(path), "exec"), names)
        printed = capsys.readouterr().out.replace(f"{tmp_path}/", "")
        if output:
            assert lasting(printed) == lasting(output), f"block {at} printed\n{printed}"
    for name, test in names.items():
        if name.startswith("test_"):
            test(**{each: request.getfixturevalue(each) for each in inspect.signature(test).parameters})


def told(text):
    """The lines of an output without times, dates of today and the paths of the test; a cut line is left out."""
    for line in text.splitlines():
        passing = r"^\d\d:\d\d:\d\d |; slowest .*|; began .*| \d+\.\d+ s\b|\S*/(?=out/)"
        words = re.sub(passing, " ", f"{line} ")
        if words.strip() and "..." not in words:
            yield " ".join(words.split())


@pytest.mark.spark
def test_what_the_commands_of_the_pages_print_is_what_they_show(submit, tmp_path):
    """``make run`` twice in the README, and each block that begins with ``$ spark-flow``."""
    first, second = (submit("daily_flights", "--show", "50")[1] for _ in range(2))
    assert submit("exclusive_choice")[0] == 0
    head = r"^```text\n(\$ [^\n]*|daily_flights [-\d]+ generation 1, attempt [12])\n(.*?)^```$"
    pages = "\n".join(page.read_text() for page in PAGES)
    shown = dict(re.findall(head, pages, re.DOTALL | re.MULTILINE))
    printed = {"daily_flights 2013-01-02 generation 1, attempt 1": first}
    printed["daily_flights 2013-01-02 generation 1, attempt 2"] = second
    for command in (words for words in shown if words.startswith("$ spark-flow ")):
        done = CliRunner().invoke(app, [*command.split()[2:], "--state", f"{tmp_path}/state"])
        assert done.exit_code == 0, done.output
        printed[command] = done.output
    assert len(printed) >= 4
    missing = {name: [line for line in told(shown[name]) if line not in {*told(printed[name])}] for name in printed}
    assert {name: lines for name, lines in missing.items() if lines} == {}
