"""What counts as the same step, and what does not."""

import datetime as dt
import functools
import importlib
import sys
import textwrap
import threading
import time

import pytest

from spark_flow import fingerprint, sql
from spark_flow.errors import InvalidStep


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a user's module and import it anew."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(text, name="users_steps"):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        sys.modules.pop(name, None)
        importlib.invalidate_caches()
        sys.dont_write_bytecode = True
        import linecache

        linecache.checkcache()
        return importlib.import_module(name)

    return write


BASE = """
    RATE = 2
    CALLS = []

    def helper(x):
        return x * RATE

    def step(frame):
        CALLS.append(1)
        return helper(frame)
"""


def of(module, text):
    return fingerprint.of(module(text).step)


def test_the_same_source_gives_the_same_fingerprint(module):
    assert of(module, BASE) == of(module, BASE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return helper(frame)", "return helper(frame)  # a comment"),
        ("def step(frame):", 'def step(frame):\n        """Say what it does."""'),
        ("return x * RATE", "return (x\n                * RATE)"),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(module, old, new):
    assert of(module, BASE) == of(module, BASE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return helper(frame)", "return helper(frame) + 1"),
        ("return x * RATE", "return x + RATE"),
        ("RATE = 2", "RATE = 3"),
    ],
    ids=["the step", "a helper that it calls", "a constant that a helper reads"],
)
def test_what_a_step_is_made_of_counts(module, old, new):
    assert of(module, BASE) != of(module, BASE.replace(old, new))


def test_a_helper_in_another_module_of_the_users_counts(module):
    text = """
        import users_helper

        def step(frame):
            return users_helper.rate(frame)
    """
    module("def rate(x):\n    return x * 2\n", name="users_helper")
    before = of(module, text)
    module("def rate(x):\n    return x * 3\n", name="users_helper")
    assert of(module, text) != before


def test_an_object_that_the_step_itself_changes_is_state_and_does_not_count(module):
    loaded = module(BASE)
    before = fingerprint.of(loaded.step)
    loaded.CALLS.append(1)
    assert fingerprint.of(loaded.step) == before


def test_recursion_ends(module):
    text = """
        def step(n):
            return other(n)

        def other(n):
            return step(n - 1) if n else 0
    """
    assert of(module, text) == of(module, text)


def test_bound_arguments_and_closures_count():
    def add(unit):
        def convert(frame):
            return (frame, unit)

        return convert

    assert fingerprint.of(add("mph")) != fingerprint.of(add("kmh"))
    assert fingerprint.of(add("mph")) == fingerprint.of(add("mph"))
    assert fingerprint.of(functools.partial(add, "a")) != fingerprint.of(functools.partial(add, "b"))
    assert fingerprint.of(sql("SELECT 1 FROM {frame}")) != fingerprint.of(sql("SELECT 2 FROM {frame}"))


def test_a_decorator_counts(module):
    text = """
        import functools

        def scaled(function):
            @functools.wraps(function)
            def wrapper(frame):
                return function(frame) * 2
            return wrapper

        @scaled
        def step(frame):
            return frame
    """
    assert of(module, text) != of(module, text.replace("* 2", "* 3"))
    assert of(module, text) != of(module, text.replace("return frame\n", "return frame + 1\n"))


def test_two_lambdas_on_one_line_differ():
    one, two = [lambda x: x + 1, lambda x: x + 2]
    assert fingerprint.of(one) != fingerprint.of(two)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, "1"),
        (True, 1),
        ([1, 2], [2, 1]),
        ({"a": 1}, {"a": 2}),
        (dt.date(2013, 1, 2), "2013-01-02"),
        (None, ""),
        (0.1, 0.2),
    ],
)
def test_different_values_differ(one, other):
    assert fingerprint.of(one) != fingerprint.of(other)


def test_the_order_of_a_mapping_or_a_set_does_not_count():
    assert fingerprint.of({"a": 1, "b": 2}) == fingerprint.of({"b": 2, "a": 1})
    assert fingerprint.of({"x", "y", "z"}) == fingerprint.of({"z", "y", "x"})


def test_a_value_without_content_is_refused_by_name_and_type():
    with pytest.raises(InvalidStep) as refused:
        fingerprint.of({"lock": threading.Lock()}, name="enrich")
    assert refused.value.step == "enrich"
    assert "lock" in refused.value.found


def test_a_function_may_use_a_module_that_is_built_into_python():
    def waits(frame):
        time.sleep(0)
        return frame

    assert fingerprint.of(waits) == fingerprint.of(waits)
