"""Names are checked by one rule, and quoting loses nothing."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_flow.core.names import check_name, quote_identifier, quote_literal
from spark_flow.errors import InvalidName

FIRST = string.ascii_letters + string.digits


@pytest.mark.parametrize("value", ["2013-01-02", "007", "1e5", "null", "a.b_c-d", "a" * 128])
def test_a_good_name_is_returned_as_it_is(value):
    assert check_name("key", value) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "a\\b",
        "a'b",
        "a b",
        "a\n",
        "-a",
        "_a",
        "a..b",
        "é",
        "٣",
        "a" * 129,
        7,
        None,
    ],
)
def test_a_bad_name_is_refused_with_what_and_value(value):
    with pytest.raises(InvalidName) as error:
        check_name("key", value)

    assert (error.value.what, error.value.value) == ("key", value)


@given(st.text(max_size=140))
def test_a_name_is_one_safe_folder_or_refused(value):
    try:
        name = check_name("node", value)
    except InvalidName:
        return

    assert 1 <= len(name) <= 128
    assert name[0] in FIRST
    assert set(name) <= set(FIRST + "._-")
    assert ".." not in name


@given(st.text(alphabet=FIRST + "_-", max_size=100), st.sampled_from(FIRST))
def test_letters_digits_and_dashes_are_always_good(rest, first):
    assert check_name("node", first + rest) == first + rest


@given(st.text(alphabet=st.sampled_from("ab'\\${}`\nn0u%_é")))
def test_a_quoted_literal_ends_where_it_should_and_reads_back(value):
    quoted = quote_literal(value)
    inner = quoted[1:-1]

    assert quoted[0] == quoted[-1] == "'"
    assert re.fullmatch(r"(?:[^'\\]|\\.)*", inner, re.DOTALL)
    assert "${" not in quoted
    assert re.sub(r"\\(u0024|.)", lambda m: "$" if m[1] == "u0024" else m[1], inner, flags=re.DOTALL) == value


@given(st.text(alphabet="ab`. \\'"))
def test_a_quoted_identifier_reads_back(name):
    quoted = quote_identifier(name)

    assert re.fullmatch(r"`(?:[^`]|``)*`", quoted)
    assert quoted[1:-1].replace("``", "`") == name
