"""Validate and quote names that become folder names, SQL literals and SQL identifiers."""

from __future__ import annotations

import re

from spark_flow.errors import InvalidName

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def check_name(what: str, value: object) -> str:
    """Return ``value`` if it is safe as a folder name, else raise ``InvalidName``.

    >>> check_name("key", "2013-01-02")
    '2013-01-02'
    """
    if not isinstance(value, str) or not _NAME.fullmatch(value) or ".." in value:
        raise InvalidName(what, value)
    return value


def check_node(value: str) -> str:
    """Return a node's name if each of its parts, as in ``publish/lake``, is safe as a folder name."""
    for part in value.split("/"):
        check_name("node", part)
    return value


def quote_table(name: str) -> str:
    """Quote a table's name of one to three parts for SQL.

    >>> quote_table("shop.orders")
    '`shop`.`orders`'

    Raises:
        InvalidName: A part is empty, or there are more than three.
    """
    parts = name.split(".")
    if not all(part.strip() for part in parts) or len(parts) > 3:  # noqa: PLR2004 - catalog, schema, table
        raise InvalidName("table", name)
    return ".".join(quote_identifier(part) for part in parts)


def whole_predicate(text: str) -> str:
    r"""Return a user's SQL condition in parentheses: Spark takes a last word for an alias, as in ``n > 3 and``.

    >>> whole_predicate("n > 3")
    '(n > 3\n)'
    """
    return f"({text}\n)"  # a line break ends a comment


def table_uri(name: str) -> str:
    """Return what identifies a table by name where others have a path; names of one table give one text.

    >>> table_uri("spark_catalog.shop.Orders")
    'table://shop.orders'
    """
    return f"table://{name.lower().removeprefix('spark_catalog.')}"


def quote_literal(value: str) -> str:
    r"""Return ``value`` as a Spark SQL string literal.

    Quotes are escaped by a backslash, which Spark accepts by default; ``deltalake`` predicates are another dialect.
    ``${`` is escaped because ``spark.sql`` substitutes variables before it parses.

    >>> print(quote_literal("O'Hare"))
    'O\'Hare'
    """
    escaped = value.replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\u0024{")
    return f"'{escaped}'"


def quote_identifier(name: str) -> str:
    """Return one part of a Spark SQL name in backticks.

    >>> quote_identifier("tail number")
    '`tail number`'
    """
    return "`" + name.replace("`", "``") + "`"
