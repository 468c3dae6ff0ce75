"""Text of users, data and errors in a terminal: printed as it is, obeyed by nobody."""

import io
import unicodedata

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table
from typer.testing import CliRunner

from spark_flow import Run
from spark_flow.cli.app import app
from spark_flow.engine.node import Node
from spark_flow.engine.outcome import Outcome
from spark_flow.view.progress import line
from spark_flow.view.tables import print_rows
from spark_flow.view.text import cell, markup, plain

ODD = ("a [id] b", "see [/etc] [/x]", "[red]", "back\\", "back\\[id]", "\x1b[31mred\x1b[0m", "\r over")


def printed(content) -> str:
    console = Console(file=io.StringIO(), width=400, soft_wrap=True, force_terminal=False)
    console.print(content)
    return console.file.getvalue()


@pytest.mark.parametrize("text", ODD)
def test_a_line_of_progress_shows_an_error_as_it_is(text):
    outcome = Outcome(node="n", kind="step", state="failed", error=f"{text}.")
    assert plain(text) in printed(line(outcome))


@pytest.mark.parametrize("text", ODD)
def test_rows_are_shown_as_they_are(text, tmp_path):
    write_deltalake(str(tmp_path / "t"), pa.table({"[/x] \x1b[1m": [text]}))
    version = DeltaTable(str(tmp_path / "t")).version()
    detail = {"format": "delta", "path": str(tmp_path / "t"), "version": version, "predicate": None}
    console = Console(file=io.StringIO(), width=400, force_terminal=False)
    print_rows([Outcome(node="l", kind="sink", state="succeeded", detail=detail)], limit=5, console=console)
    shown = console.file.getvalue()
    assert (plain(text) in shown, "[/x] \\x1b[1m" in shown, "\x1b" in shown) == (True, True, False)


@pytest.mark.parametrize("command", ["show", "status"])
def test_the_ledger_is_shown_as_it_is(command, tmp_path):
    state = str(tmp_path / "state")
    with pytest.raises(Exception, match="cannot read"), Run.open("p", "k", state=state) as run:
        run.once(
            Node(name="n"), lambda _: (_ for _ in ()).throw(ValueError("cannot read [/data/x] where [id=5] \x1b[2J"))
        )
    done = CliRunner().invoke(app, [command, "p", *(["k"] if command == "show" else []), "--state", state])
    assert (done.exit_code, "\x1b" in done.output) == (0, False)
    assert command == "status" or "cannot read [/data/x] where [id=5] \\x1b[2J" in done.output


@example(text="", other="\\[")
@example(text="\\\\[", other="\\[a]")
@given(st.text(), st.text())
def test_any_text_passes_through_markup_and_cells(text, other):
    text, other = text.replace("\n", ""), other.replace("\n", "")
    shown = printed(f"[bold]{markup(text)}[/] [red]{markup(other)}[/]")
    assert shown == f"{plain(text)} {plain(other)}\n".expandtabs(8) or "\t" in text + other
    table = Table("a", "b", box=None, show_header=False, padding=0, collapse_padding=True)
    table.add_row(cell(text), cell(other))
    printed(table)


@given(st.text(alphabet=st.characters(codec=None)))
def test_nothing_that_a_terminal_obeys_is_left(text):
    left = plain(text)
    assert [one for one in left if unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") and one not in "\t\n"] == []
    left.encode()
