"""Expectations: rules on the rows of a frame, checked before anything that is made from it reaches a sink.

The frame is written as a checkpoint. Rules on single rows are checked within that pass; those on the whole frame read
the checkpoint. A rule that does not hold fails the node, is counted, or moves its rows into a table of their own.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from spark_flow.core import fingerprint
from spark_flow.core.names import quote_identifier, quote_literal, whole_predicate
from spark_flow.engine.lazy_frame import CheckpointTarget, LazyFrame, lazy
from spark_flow.engine.node import Node
from spark_flow.engine.writing import write
from spark_flow.errors import ExpectationFailed, InvalidArgument, is_of_plan
from spark_flow.storage import checkpoints
from spark_flow.storage.content import reported
from spark_flow.storage.delta import delta
from spark_flow.storage.delta_tables import last_revision
from spark_flow.storage.key_rows import named_in
from spark_flow.storage.reading import analysed
from spark_flow.storage.sink_protocol import app_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspark.sql import Column, DataFrame

    from spark_flow.engine.lazy_frame import HasFrame
    from spark_flow.engine.outcome import Outcome
    from spark_flow.engine.run import Run
    from spark_flow.storage.sink_protocol import Intent, Written

Otherwise = Literal["fail", "warn", "quarantine"]

ASIDE = "/quarantine"  # after the name of a check, the node that writes the rows it sets aside
_MARK = "spark_flow: expected: "


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule; create one with ``holds``, ``unique`` or ``row_count``.

    Attributes:
        that: SQL that is true for each row; NULL is not true.
        unique: Columns that identify a row.
        at_least: The smallest number of rows.
        at_most: The largest number of rows.
        otherwise: What to do if it does not hold.
    """

    that: str = ""
    unique: tuple[str, ...] = ()
    at_least: int | None = None
    at_most: int | None = None
    otherwise: Otherwise = "fail"


def holds(that: str, otherwise: Otherwise = "fail") -> Rule:
    """Return a rule on each row: SQL that must be true; NULL is not true.

    Args:
        that: For example ``amount > 0``.
        otherwise: ``fail`` the node, ``warn`` (count the rows), or ``quarantine`` (move the rows into a table).
    """
    return Rule(that=that, otherwise=otherwise)


def unique(*columns: str, otherwise: Literal["fail", "warn"] = "fail") -> Rule:
    """Return a rule on the whole frame: no two rows have the same values in these columns. It costs a Spark job."""
    return Rule(unique=columns, otherwise=otherwise)


def row_count(
    at_least: int | None = None, at_most: int | None = None, *, otherwise: Literal["fail", "warn"] = "fail"
) -> Rule:
    """Return a rule on the number of rows, which the checkpoint's files tell without a Spark job."""
    return Rule(at_least=at_least, at_most=at_most, otherwise=otherwise)


def expect(
    run: Run,
    frame: DataFrame | HasFrame,
    rules: Mapping[str, Rule],
    *,
    name: str = "expect",
    quarantine: str = "",
) -> LazyFrame:
    """Check a frame by rules, at once, and return the rows that may be used.

    What was found is recorded with the node and is a part of the summary: ``{"known": 3}``, the rows (for ``unique``
    the values) that violate each rule.

    >>> rules = {
    ...     "positive": holds("amount > 0"),
    ...     "known": holds("carrier IS NOT NULL", "warn"),
    ...     "dated": holds("day = '2024-03-01'", "quarantine"),
    ...     "one_row_each": unique("id"),
    ...     "some": row_count(at_least=1),
    ... }
    >>> good = expect(run, orders, rules, name="checked", quarantine="out/bad_orders")  # doctest: +SKIP

    Args:
        run: The run.
        frame: The input.
        rules: The rules, by name.
        name: The node's name.
        quarantine: The path of a Delta table for rows that violate rules with ``quarantine``: the frame's columns,
            and ``pipeline, key, node, rules``; each revision replaces the key's rows.

    Raises:
        ExpectationFailed: A rule with ``fail`` does not hold: the node failed, and nothing was made from the frame.
        InvalidArgument: A rule says nothing, or ``quarantine`` is missing.
        NodeFailed: A rule's SQL is wrong, or the frame cannot be computed.
    """
    node = run.node(name)
    check_rules(node, rules, quarantine)
    source = lazy(run, frame, f"{node}: frame")
    digest = fingerprint.combine(source.fingerprint, {key: dataclasses.astuple(one) for key, one in rules.items()})
    rows = {key: rule for key, rule in rules.items() if rule.that}

    def check(intent: Intent) -> Written:
        watched, count = _observed(_failing(source.frame, rows), rows)
        try:
            written = checkpoints.write(watched, run.state, intent)
        except Exception as error:
            failed = _as_failed(error, node)
            if failed is None:
                raise
            raise failed from error
        found = {**count(), **_of_whole(run, rules, written)}
        for rule in [rule for rule, number in found.items() if number and rules[rule].otherwise == "fail"]:
            raise ExpectationFailed(node, rule, _words(rules[rule], found[rule], written.rows))
        words = [f"{rule}: {_words(rules[rule], number, written.rows)}" for rule, number in found.items() if number]
        for each in words:
            run.warn(f"{node}: {each}")
        reason = "; ".join(["all expectations met" if not words else "checkpoint written", *words])
        return dataclasses.replace(written, reason=reason, detail={**written.detail, "expectations": found})

    checked = Node(name=node, kind="expect", fingerprint=digest, inputs=(source,))
    outcome = run.once(checked, check, CheckpointTarget(run.state))
    read = functools.partial(_read, run, source, rules, outcome)
    moved = {rule: one for rule, one in rows.items() if one.otherwise == "quarantine"}
    if not moved:
        return LazyFrame(run, node, "expect", digest, (), read, source.completeness)
    aside = any(outcome.detail.get("expectations", {}).get(rule) for rule in moved)
    if aside or last_revision(quarantine, app_id(run.pipeline, node + ASIDE, run.key)):
        bad = functools.partial(_bad, run, node, read, moved)
        _quarantine(run, node, LazyFrame(run, f"{node}/bad", "step", digest, (), bad), quarantine)
    good = functools.partial(_good, read, moved)
    return LazyFrame(run, node, "expect", digest, (), good, source.completeness)


def check_rules(node: str, rules: Mapping[str, Rule], quarantine: str) -> None:
    """Check that each rule says something.

    Raises:
        InvalidArgument: One does not.
    """
    for name, rule in rules.items():
        where = f"{node}: {name}"
        counts = rule.at_least is not None or rule.at_most is not None
        if sum((bool(rule.that), bool(rule.unique), counts)) != 1:
            raise InvalidArgument(where, "a rule of none or several kinds", "one of: holds, unique, row_count")
        if rule.otherwise not in ("fail", "warn", "quarantine"):
            raise InvalidArgument(where, repr(rule.otherwise), "one of: fail, warn, quarantine")
        if rule.otherwise == "quarantine" and not rule.that:
            raise InvalidArgument(where, "quarantine of a rule on the whole frame", "fail or warn")
        if rule.otherwise == "quarantine" and not quarantine:
            raise InvalidArgument(where, "quarantine without a table", "quarantine: the path of a Delta table")
    if not rules:
        raise InvalidArgument(node, "no rule", "at least one")


def is_aside(run: Run, node: str) -> bool:
    """Whether a node writes the rows that a check has set aside, which are no part of what the run publishes."""
    checked = run.outcome(node.removesuffix(ASIDE)) if node.endswith(ASIDE) else None
    return checked is not None and checked.kind == "expect"


def _met(rule: Rule) -> Column:
    from pyspark.sql import functions as F

    return F.coalesce(F.expr(whole_predicate(rule.that)).cast("boolean"), F.expr("false"))


def _failing(frame: DataFrame, rules: Mapping[str, Rule]) -> DataFrame:
    """The frame, whose action fails at a row that violates a rule with ``fail``."""
    from pyspark.sql import functions as F

    for name, rule in rules.items():
        if rule.otherwise == "fail":
            shown = [
                f"concat({quote_literal(f'{each} = ')}, coalesce(CAST({quote_identifier(each)} AS STRING), 'NULL'))"
                for each in named_in(rule.that, frame.columns)
            ]
            text = f"concat({quote_literal(f'{_MARK}{name}: ')}, concat_ws(', ', {', '.join(shown) or repr('a row')}))"
            fails = F.expr(f"CAST(raise_error({text}) AS BOOLEAN)")
            frame = frame.where(F.when(_met(rule), F.expr("true")).otherwise(fails))
    return frame


def _as_failed(error: BaseException, node: str) -> ExpectationFailed | None:
    if is_of_plan(error):
        return None
    found = re.search(re.escape(_MARK) + r"(.*?): (.*?)(?: SQLSTATE: \w+|\n\tat |$)", str(error), re.DOTALL)
    return ExpectationFailed(node, found[1], f"a row with {found[2].strip()}") if found else None


def _observed(frame: DataFrame, rules: Mapping[str, Rule]) -> tuple[DataFrame, Callable[[], dict[str, int]]]:
    """The frame, and a function that returns how many rows violate each rule once an action has ended."""
    from pyspark.sql import Observation
    from pyspark.sql import functions as F

    if not rules:
        return frame, dict
    observation = Observation()
    measures = [F.count(F.when(~_met(rule), 1)).alias(f"rule {at}") for at, rule in enumerate(rules.values())]
    watched = frame.observe(observation, *measures)

    def count() -> dict[str, int]:
        found = reported(observation)
        return {name: int(found[f"rule {at}"] or 0) for at, name in enumerate(rules)}

    return watched, count


def _of_whole(run: Run, rules: Mapping[str, Rule], written: Written) -> dict[str, int]:
    """How many keys occur more than once, by rule; of the number of rows, how many are too many or too few."""
    from pyspark.sql import functions as F

    found, rows = {}, written.rows or 0
    for name, rule in rules.items():
        if rule.unique:
            frame = checkpoints.read(run.spark, run.state, [written.detail])
            columns = [F.col(quote_identifier(each)) for each in rule.unique]
            keys = frame.groupBy(*columns).agg(F.count("*").alias("spark_flow_rows"))
            found[name] = keys.where("spark_flow_rows > 1").count()
        elif not rule.that:
            few, many = (rule.at_least or 0) - rows, rows - rule.at_most if rule.at_most is not None else 0
            found[name] = max(few, many, 0)
    return found


def _words(rule: Rule, number: int, rows: int | None) -> str:
    if rule.that:
        what = "set aside" if rule.otherwise == "quarantine" else "counted"
        return f"{number} row(s) without {rule.that} ({what})"
    if rule.unique:
        return f"{number} value(s) of {', '.join(rule.unique)} occur more than once"
    limits = [f"at least {rule.at_least}"] if rule.at_least is not None else []
    limits += [f"at most {rule.at_most}"] if rule.at_most is not None else []
    return f"{rows} rows, expected {' and '.join(limits)}"


def _read(run: Run, source: LazyFrame, rules: Mapping[str, Rule], outcome: Outcome) -> DataFrame:
    if outcome.state == "would run":
        return _analysed(source.frame, rules)
    return checkpoints.read(run.spark, run.state, [outcome.detail])


def _analysed(frame: DataFrame, rules: Mapping[str, Rule]) -> DataFrame:
    """The frame, after Spark has analysed the rules on it: a plan reports an unknown column, and SQL that is wrong."""
    for rule in rules.values():
        analysed(frame.where(_met(rule)) if rule.that else frame.select(*map(quote_identifier, rule.unique)))
    return frame


def _all_met(rules: Mapping[str, Rule]) -> Column:
    return functools.reduce(lambda one, other: one & other, [_met(rule) for rule in rules.values()])


def _good(read: Callable[[], DataFrame], rules: Mapping[str, Rule]) -> DataFrame:
    return read().where(_all_met(rules))


def _bad(run: Run, node: str, read: Callable[[], DataFrame], rules: Mapping[str, Rule]) -> DataFrame:
    from pyspark.sql import functions as F

    names = F.array_compact(F.array(*[F.when(~_met(rule), F.lit(name)) for name, rule in rules.items()]))
    identity = {"pipeline": run.pipeline, "key": run.key, "node": node}
    columns = [F.lit(value).alias(name) for name, value in identity.items()]
    return read().where(~_all_met(rules)).select(*columns, names.alias("rules"), "*")


def _quarantine(run: Run, node: str, bad: LazyFrame, path: str) -> None:
    where = f"`key` = {quote_literal(run.key)} AND `node` = {quote_literal(node)}"
    sink = delta(path, partition_by=("key", "node"), replace_where=where, schema="evolve")
    write(run, node + ASIDE, bad, sink)
