"""Fingerprint: a hash of what a node is computed from. The same code, arguments and inputs give the same hash.

The bug to avoid is the reuse of a stale checkpoint, so a function's fingerprint also covers what it calls and
reads in the user's own modules: helper functions, classes and constants. Comments, docstrings and layout do
not count. Neither do installed packages: pin them, or pass ``version=``. Credentials do not count either: values
with the name of a secret (``spark_flow.core.secrets``), user and password in a URL, values of ``${oc.env:NAME}``.
"""

from __future__ import annotations

import ast
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import hashlib
import inspect
import json
import os
import pathlib
import re
import site
import sys
import sysconfig
import textwrap
import types
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from spark_flow.core.secrets import arguments_shown, is_secret, without_credentials
from spark_flow.errors import InvalidStep

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_PLAIN = (str, int, float, bool, bytes, complex, type(None))
_PRINTED = (dt.date, dt.time, dt.timedelta, decimal.Decimal, pathlib.PurePath, range, re.Pattern)
_CHANGES = frozenset(
    [
        "add",
        "append",
        "appendleft",
        "clear",
        "discard",
        "extend",
        "insert",
        "pop",
        "remove",
        "setdefault",
        "update",
    ]
)
_PATHS = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_OURS = str(pathlib.Path(__file__).parent.parent)
_INSTALLED = tuple(dict.fromkeys([*_PATHS, *site.getsitepackages(), site.getusersitepackages(), _OURS]))
_CUT = re.compile(r"\.\.\. \d+ more fields")
_ALL_FIELDS, _FEW = 1_000_000, 20


def combine(*parts: object) -> str:
    """Return one fingerprint of several values and fingerprints, in order: 16 hexadecimal digits."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def of(value: object, *, name: str = "value") -> str:
    """Return the fingerprint of a function, an argument or any combination of them.

    Raises:
        InvalidStep: The value has no content that is the same in every process (for example a connection or a lock).
    """
    return combine(_Canonical(name).of(value))


def of_frame(frame: DataFrame) -> str:
    """Return the fingerprint of a frame that has none of its own, from its files, schema and plan.

    Data built in memory is not part of a plan: create that frame in a step, or read it as a source.
    """
    return combine("frame", frame.schema.json(), sorted(frame.inputFiles()), _plan(frame))


def _plan(frame: DataFrame) -> str:
    """Return a frame's plan as text, without what differs between sessions.

    SQL returns the text, whereas ``explain`` prints it, and captured output could be mixed with that of other threads.
    PySpark registers the frame as a temporary view for this one statement.
    """
    text = _explained(frame)
    return _stable(_whole_plan(frame) if _CUT.search(text) else text)


def _explained(frame: DataFrame) -> str:
    return str(frame.sparkSession.sql("EXPLAIN EXTENDED SELECT * FROM {frame}", frame=frame).collect()[0][0])


def _whole_plan(frame: DataFrame) -> str:
    """Return the plan with all fields: by default Spark truncates a list after 25, but the others count as well.

    The setting is changed in a new session, because the frame's session is shared. Spark Connect has no
    ``newSession``: there the plan is read for a few columns at a time.
    """
    new_session = getattr(frame.sparkSession, "newSession", None)
    if new_session is None:
        named = frame.toDF(*[f"c{at}" for at in range(len(frame.columns))])
        return "\n".join(_explained(named.select(*names)) for names in _groups(named.columns, _FEW))
    session, name = new_session(), f"spark_flow_{uuid.uuid4().hex}"
    session.conf.set("spark.sql.debug.maxToStringFields", _ALL_FIELDS)
    frame.createGlobalTempView(name)
    try:
        return _explained(session.table(f"global_temp.{name}"))
    finally:
        frame.sparkSession.catalog.dropGlobalTempView(name)


def _groups(names: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (names[at : at + size] for at in range(0, len(names), size))


def _stable(plan: str) -> str:
    """Return a plan's text with columns numbered in order of appearance, and without generated names.

    Numbers stay distinct: they distinguish two columns of the same name.
    """
    plan = re.sub(r"plan_id=\d+|\[id=#?\d+\]", "", plan)
    plan = re.sub(r"(?:global_temp\.)?\b(?:_pyspark(?:_connect_temp_view)?|spark_flow)_[0-9a-f]{32}\b", "frame", plan)
    seen: dict[str, str] = {}
    return re.sub(r"#\d+", lambda found: seen.setdefault(found[0], f"#{len(seen)}"), plan)


def _own_fingerprint(value: object) -> str | None:
    """Return the ``fingerprint`` of a source, a sink or a lazy frame; ``None`` if the attribute is something else.

    A module may have a submodule of that name, a frame a column, a class a method. In a user's dataclass it is a field
    like any other.
    """
    if isinstance(value, type | types.ModuleType) or inspect.getattr_static(value, "fingerprint", None) is None:
        return None
    declared = inspect.getattr_static(type(value), "fingerprint", None)
    ours = type(value).__module__.startswith("spark_flow.")
    if dataclasses.is_dataclass(value) and not ours and not isinstance(declared, property | functools.cached_property):
        return None
    own = getattr(value, "fingerprint", None)
    return own if isinstance(own, str) else None


class _Canonical:
    """Converts a value to JSON that depends on its content only."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._seen: set[int] = set()

    def of(self, value: Any) -> Any:
        if isinstance(value, _PLAIN):
            return [type(value).__name__, repr(without_credentials(value) if isinstance(value, str) else value)]
        own = _own_fingerprint(value)
        if own is not None:
            return ["fingerprint", own]
        if isinstance(value, enum.Enum):
            return ["enum", type(value).__qualname__, value.name]
        if isinstance(value, _PRINTED):
            return [type(value).__name__, str(value)]
        return self._container(value) or self._code(value) or self._spark(value) or self._refuse(value)

    def _container(self, value: Any) -> list[Any] | None:
        if isinstance(value, Mapping):
            return ["mapping", sorted(([self.of(k), self.of(v)] for k, v in value.items()), key=json.dumps)]
        if isinstance(value, AbstractSet):
            return ["set", sorted((self.of(v) for v in value), key=json.dumps)]
        if isinstance(value, Sequence):
            return ["sequence", [self.of(v) for v in value]]
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return [
                type(value).__qualname__,
                [self._named(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)],
            ]
        return None

    def _named(self, name: str, value: Any) -> Any:
        """Return the content of a named value; a credential is left out, since it may change."""
        return ["secret"] if isinstance(value, str | bytes) and is_secret(name) else self.of(value)

    def _code(self, value: Any) -> list[Any] | None:
        if isinstance(value, functools.partial):
            return ["partial", self.of(value.func), self.of(value.args), self.of(arguments_shown(value.keywords))]
        if isinstance(value, types.MethodType):
            return ["method", self.of(value.__func__), self.of(value.__self__)]
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.ModuleType):
            return ["module", value.__name__]
        if isinstance(value, type | types.BuiltinFunctionType | types.BuiltinMethodType):
            return self._class(value) if isinstance(value, type) else ["builtin", value.__qualname__]
        wrapped = getattr(value, "__wrapped__", None)
        return self.of(wrapped) if callable(value) and callable(wrapped) else None

    def _spark(self, value: Any) -> list[Any] | None:
        name = f"{type(value).__module__}.{type(value).__qualname__}"
        if not name.startswith("pyspark."):
            return None
        if name.endswith("SparkSession"):
            return ["session"]
        if name.endswith(".Column"):
            return ["column", str(value)]
        if hasattr(value, "explain"):
            return ["frame", of_frame(value)]
        return ["type", value.json()] if hasattr(value, "jsonValue") else None

    def _function(self, function: types.FunctionType) -> list[Any]:
        name = ["function", function.__module__, function.__qualname__]
        if id(function) in self._seen:
            return name
        self._seen.add(id(function))
        if not _is_users(function):  # functions of an installed package's factory differ by closure
            return [*name, [[free, self._lenient(free, value)] for free, value in _closure(function)]]
        changed = _changed_by(function)
        uses = [[use, self._lenient(use, used)] for use, used in sorted(_uses(function).items()) if use not in changed]
        defaults = [self.of(function.__defaults__ or ()), self.of(arguments_shown(function.__kwdefaults__ or {}))]
        return ["function", _text(function), defaults, uses]

    def _class(self, cls: type) -> list[Any]:
        if not _is_users(cls):
            return ["class", cls.__module__, cls.__qualname__]
        return ["class", _text(cls)]

    def _lenient(self, name: str, used: object) -> Any:
        """Return the content of what a function reads from its module; an object without content (a logger) is fine."""
        try:
            return self._named(name, used)
        except InvalidStep:
            return ["object", type(used).__qualname__]

    def _refuse(self, value: object) -> Any:
        raise InvalidStep(
            self._name,
            f"an argument of type {type(value).__name__}, which has no stable fingerprint",
            "Pass plain values, make the object inside the step, or read data as a source.",
        )


def _is_users(thing: Callable[..., Any] | type) -> bool:
    """Whether code belongs to the user: not to Python, an installed package, or spark_flow."""
    try:
        file = inspect.getsourcefile(thing) or ""
    except TypeError:
        return False
    return not _is_installed(file)


def _is_installed(file: str) -> bool:
    """Whether a file is inside a folder of Python, of installed packages, or of spark_flow.

    >>> _is_installed(json.__file__), _is_installed(f"{_OURS}_jobs/steps.py")
    (True, False)
    """
    return any(file.startswith(folder.rstrip(os.sep) + os.sep) for folder in (*_INSTALLED, *_of_spark()))


def _of_spark() -> tuple[str, ...]:
    """Return the folder of PySpark, which a cluster's Spark ships outside of site-packages."""
    file = getattr(sys.modules.get("pyspark"), "__file__", None)
    return (str(pathlib.Path(file).parent),) if file else ()


def _uses(function: types.FunctionType) -> dict[str, object]:
    """Return what a function reads by name from its closure, its module, and the user's modules that it refers to."""
    names = set(_names(function.__code__))
    used = {name: function.__globals__[name] for name in names if name in function.__globals__}
    for name, module in list(used.items()):
        if isinstance(module, types.ModuleType) and not _is_installed(_file(module)):
            used |= {f"{name}.{n}": getattr(module, n) for n in names if hasattr(module, n)}
    return used | dict(_closure(function))


def _file(module: types.ModuleType) -> str:
    """Return a module's source file; a built-in module has none and counts as installed."""
    return getattr(module, "__file__", None) or __file__


def _closure(function: types.FunctionType) -> list[tuple[str, object]]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return [(name, cell.cell_contents) for name, cell in cells]


def _names(code: types.CodeType) -> Iterable[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _changed_by(function: types.FunctionType) -> set[str]:
    """Return the names whose object the function itself changes (a list of calls, a cache): state, not input."""
    changed = set()
    for node in ast.walk(_tree(function) or ast.Module([], [])):
        target = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGES:
            target = node.func.value
        elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            target = node.value
        elif isinstance(node, ast.AugAssign):
            target = node.target
        if isinstance(target, ast.Name):
            changed.add(target.id)
    return changed


def _tree(thing: types.FunctionType | type) -> ast.Module | None:
    """Return the parsed source; ``None`` for a lambda, which shares its line with other code, and without source."""
    if getattr(thing, "__name__", "") == "<lambda>":
        return None
    try:
        # The code object, not the function: inspect would follow functools.wraps to the wrapped function.
        return ast.parse(textwrap.dedent(inspect.getsource(getattr(thing, "__code__", thing))))
    except (OSError, SyntaxError):
        return None


def _text(thing: types.FunctionType | type) -> str:
    """Return the source without comments, docstrings and layout; for a lambda or missing source the compiled code."""
    tree = _tree(thing)
    if tree is not None:
        return ast.dump(_without_docstrings(tree))
    return repr(_compiled(thing.__code__)) if isinstance(thing, types.FunctionType) else thing.__qualname__


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            first = body[0].value
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                node.body = body[1:]  # type: ignore[attr-defined]
    return tree


def _compiled(code: types.CodeType) -> tuple[object, ...]:
    constants = tuple(_compiled(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts)
    return (code.co_code.hex(), constants, code.co_names, code.co_varnames)
