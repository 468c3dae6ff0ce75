"""Join frames side by side: the horizontal fan-in (the book's section 3.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from spark_flow.core.names import quote_identifier
from spark_flow.errors import ColumnClash, DuplicateKeys, MissingColumns, NoBranches, TypeConflict
from spark_flow.transforms.columns import Fold, check_frame, folding, same_type, unique_columns

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

How = Literal["inner", "left"]
Clash = Literal["refuse", "prefix"]
On = str | Sequence[str] | Mapping[str, str | Sequence[str]]

_MARK = "spark_flow duplicate key"


def join_all(
    frames: Mapping[str, DataFrame],
    on: On,
    how: How = "inner",
    *,
    clash: Clash = "refuse",
    allow_duplicates: bool = False,
) -> DataFrame:
    """Join frames: the rows of the first one with the columns of all others.

    Lazy: no Spark job runs. A duplicate key in a frame other than the first would multiply rows; the action that finds
    one fails and names the frame and the key (a key with a null never matches and is not a duplicate).

    >>> wide = join_all({"flights": f, "weather": w}, on=["origin", "time_hour"], how="left")  # doctest: +SKIP

    Args:
        frames: Frames by name; the first one provides the rows.
        on: The key columns of all frames; or a mapping from each frame but the first to its own key columns.
        how: ``inner`` returns rows that have a match in every frame, ``left`` all rows of the first frame.
        clash: What to do with a column, other than a key, that two frames have: ``refuse`` it, or ``prefix`` it with
            its frame's name, as in ``weather_year``. The first frame's columns keep their names.
        allow_duplicates: Allow duplicate keys to multiply rows, as in a plain join.

    Raises:
        NoBranches: ``frames`` is empty.
        NotADataFrame: A value is not a DataFrame.
        MissingColumns: A key column is missing from a frame.
        TypeConflict: A key column has different types in two frames.
        ColumnClash: Two frames have the same column.
    """
    if not frames:
        raise NoBranches("join_all")
    for name, frame in frames.items():
        check_frame(name, frame)
    first, *others = frames
    fold = folding(frames[first].sparkSession)
    for name, frame in frames.items():
        unique_columns(name, frame.columns, fold)
    keys = {name: _keys(on, name, frames[name], fold) for name in others}
    renamed = _renamed(frames, keys, clash, fold)
    result = frames[first]
    for name in others:
        _check_keys(first, result, name, frames[name], keys[name], fold)
        right = frames[name] if allow_duplicates else _one_per_key(name, frames[name], keys[name])
        result = _join(result, right, keys[name], how, renamed[name], fold)
    return result


def as_duplicate_keys(error: BaseException) -> DuplicateKeys | None:
    """Return the duplicate key that Spark's error reports; ``None`` if it reports something else."""
    found = re.search(re.escape(_MARK) + r" \[(.*?)\] ([^\n]*)", str(error))
    return DuplicateKeys(found[1], found[2].split(" SQLSTATE:")[0].strip()) if found else None


def _keys(on: On, name: str, frame: DataFrame, fold: Fold) -> list[str]:
    keys = on.get(name, ()) if isinstance(on, Mapping) else on
    listed = [keys] if isinstance(keys, str) else list(keys)
    if not listed:
        raise MissingColumns(name, ["a key column (name one in on=)"], frame.columns)
    missing = [key for key in listed if fold(key) not in {fold(c) for c in frame.columns}]
    if missing:
        raise MissingColumns(name, missing, frame.columns)
    return listed


def _renamed(
    frames: Mapping[str, DataFrame], keys: Mapping[str, Sequence[str]], clash: str, fold: Fold
) -> dict[str, dict[str, str]]:
    """Return, for each frame but the first, the new names of its columns other than keys."""
    first, *others = frames
    values = {n: [c for c in frames[n].columns if fold(c) not in {fold(k) for k in keys[n]}] for n in others}
    holders: dict[str, list[str]] = {fold(c): [first] for c in frames[first].columns}
    for name in others:
        for column in values[name]:
            holders.setdefault(fold(column), []).append(name)
    clashing = {column: names for column, names in holders.items() if len(names) > 1}
    if clashing and clash == "refuse":
        raise ColumnClash(clashing)
    renamed = {n: {c: f"{n}_{c}" if fold(c) in clashing else c for c in values[n]} for n in others}
    taken = [*frames[first].columns, *(new for names in renamed.values() for new in names.values())]
    folded = [fold(name) for name in taken]
    twice = {fold(name) for name in taken if folded.count(fold(name)) > 1}
    if twice:
        raise ColumnClash({column: list(frames) for column in sorted(twice)})
    return renamed


def _check_keys(first: str, left: DataFrame, name: str, right: DataFrame, keys: Sequence[str], fold: Fold) -> None:
    types = [{fold(f.name): f.dataType for f in frame.schema.fields} for frame in (left, right)]
    missing = [key for key in keys if fold(key) not in types[0]]
    if missing:
        raise MissingColumns(first, missing, left.columns)
    for key in keys:
        one, other = (known[fold(key)] for known in types)
        if not same_type(one, other):
            raise TypeConflict(key, {first: one.simpleString(), name: other.simpleString()})


def _one_per_key(name: str, frame: DataFrame, keys: Sequence[str]) -> DataFrame:
    """Return the frame with a check that fails at a duplicate key, in the same pass as the join."""
    from pyspark.sql import functions as F

    columns = [F.col(quote_identifier(key)) for key in keys]
    grouped = frame.dropna(subset=list(keys)).groupBy(*columns)
    row = F.struct(*[F.col(quote_identifier(c)) for c in frame.columns]).alias("row")
    counted = grouped.agg(F.first(row).alias("row"), F.count("*").alias("rows"))
    shown = F.concat_ws(
        ", ", *[F.concat(F.lit(f"{key}="), c.cast("string")) for key, c in zip(keys, columns, strict=True)]
    )
    twice = F.raise_error(F.concat(F.lit(f"{_MARK} [{name}] "), shown))
    unique = counted.where(F.when(F.col("rows") > 1, twice).otherwise(F.lit("true").cast("boolean")))
    return unique.select("row.*")


def _join(
    left: DataFrame, right: DataFrame, keys: Sequence[str], how: How, renamed: Mapping[str, str], fold: Fold
) -> DataFrame:
    from pyspark.sql import functions as F

    spelling = {fold(name): name for name in left.columns}
    own = {fold(name): name for name in right.columns}
    chosen = [F.col(quote_identifier(own[fold(k)])).alias(spelling[fold(k)]) for k in keys]
    chosen += [F.col(quote_identifier(old)).alias(new) for old, new in renamed.items()]
    joined = left.join(right.select(*chosen), [spelling[fold(k)] for k in keys], how)
    return joined.select(*[F.col(quote_identifier(c)) for c in [*left.columns, *renamed.values()]])
