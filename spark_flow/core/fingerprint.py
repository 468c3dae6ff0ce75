"""What a node is made of, as a hash: the same text, arguments and inputs give the same fingerprint.

The bug to fear is the reuse of a stale boundary, so a function's fingerprint also covers what it calls and
reads in the user's own modules: helper functions, classes and constants. Comments, docstrings and layout do
not count. Installed packages do not either: pin them, or pass ``version=``. Nor do credentials: what has the name of
one (``spark_flow.core.secrets``), the user and password of an address, and what ``${oc.env:NAME}`` stands for.
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
    """One fingerprint of several values and fingerprints, in order: 16 hexadecimal digits."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def of(value: object, *, name: str = "value") -> str:
    """The fingerprint of a function, an argument or any mixture of them.

    Raises:
        InvalidStep: The value has no content that is the same in every process (a connection, a lock).
    """
    return combine(_Canonical(name).of(value))


def of_frame(frame: DataFrame) -> str:
    """The fingerprint of a frame that came without one: its files, schema and plan.

    Data that was built in memory is not in a plan: make such a frame in a step, or read it as a source.
    """
    return combine("frame", frame.schema.json(), sorted(frame.inputFiles()), _plan(frame))


def _plan(frame: DataFrame) -> str:
    """The text of a frame's plan, without what differs from session to session.

    By SQL, which returns it: ``explain`` prints it, and catching what is printed would catch other threads' output, and
    lose ours to them. PySpark gives the frame a view of a name of its own for the one statement.
    """
    text = _explained(frame)
    return _stable(_whole_plan(frame) if _CUT.search(text) else text)


def _explained(frame: DataFrame) -> str:
    return str(frame.sparkSession.sql("EXPLAIN EXTENDED SELECT * FROM {frame}", frame=frame).collect()[0][0])


def _whole_plan(frame: DataFrame) -> str:
    """The text with all fields: a session prints 25 of a list, and what is cut off counts as well.

    The setting is of a session of its own, as others work in the frame's. Spark Connect makes none: there the plan is
    that of a few columns at a time.
    """
    apart = getattr(frame.sparkSession, "newSession", None)
    if apart is None:
        named = frame.toDF(*[f"c{at}" for at in range(len(frame.columns))])
        return "\n".join(_explained(named.select(*names)) for names in _groups(named.columns, _FEW))
    session, name = apart(), f"spark_flow_{uuid.uuid4().hex}"
    session.conf.set("spark.sql.debug.maxToStringFields", _ALL_FIELDS)
    frame.createGlobalTempView(name)
    try:
        return _explained(session.table(f"global_temp.{name}"))
    finally:
        frame.sparkSession.catalog.dropGlobalTempView(name)


def _groups(names: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (names[at : at + size] for at in range(0, len(names), size))


def _stable(plan: str) -> str:
    """A plan's text with its columns numbered as they come, and without names that are made anew each time.

    The numbers stay apart: of two columns of one name they tell which is meant.
    """
    plan = re.sub(r"plan_id=\d+|\[id=#?\d+\]", "", plan)
    plan = re.sub(r"(?:global_temp\.)?\b(?:_pyspark|spark_flow)_[0-9a-f]{32}\b", "frame", plan)
    seen: dict[str, str] = {}
    return re.sub(r"#\d+", lambda found: seen.setdefault(found[0], f"#{len(seen)}"), plan)


def _own_fingerprint(value: object) -> str | None:
    """The hash that a value (a source, a sink, a lazy frame) knows of itself; ``None`` if it only looks so.

    A module may have a submodule of that name, a frame a column, a class a method. As a field of a user's dataclass it
    is one of the things that the value is made of.
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
    """Turns a value into JSON that depends on its content alone."""

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
        """What code or an object has under a name: a credential is none of what it is made of, and may change."""
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
        if not _is_users(function):  # an installed package's factory still tells its functions apart by closure
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
        """What a function reads from its module: an object without content there (a logger) is no fault."""
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
    """Whether code belongs to the user: not to Python, an installed package, or us."""
    try:
        file = inspect.getsourcefile(thing) or ""
    except TypeError:
        return False
    return not _is_installed(file)


def _is_installed(file: str) -> bool:
    """Whether a file is Python's, an installed package's, or ours: in one of their folders, not beside it.

    >>> _is_installed(json.__file__), _is_installed(f"{_OURS}_jobs/steps.py")
    (True, False)
    """
    return any(file.startswith(folder.rstrip(os.sep) + os.sep) for folder in (*_INSTALLED, *_of_spark()))


def _of_spark() -> tuple[str, ...]:
    """The folder of PySpark, which a cluster's Spark brings along in a place of its own."""
    file = getattr(sys.modules.get("pyspark"), "__file__", None)
    return (str(pathlib.Path(file).parent),) if file else ()


def _uses(function: types.FunctionType) -> dict[str, object]:
    """What a function reads by name from its closure, its module, and the user's modules that it names."""
    names = set(_names(function.__code__))
    used = {name: function.__globals__[name] for name in names if name in function.__globals__}
    for name, module in list(used.items()):
        if isinstance(module, types.ModuleType) and not _is_installed(_file(module)):
            used |= {f"{name}.{n}": getattr(module, n) for n in names if hasattr(module, n)}
    return used | dict(_closure(function))


def _file(module: types.ModuleType) -> str:
    """Where a module's source is; one that is built into Python has none and counts as installed."""
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
    """Names whose object the function itself changes (a list of calls, a cache): state, not what it is made of."""
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
    """The parsed source; ``None`` for a lambda, which shares its line with others, and where source is lost."""
    if getattr(thing, "__name__", "") == "<lambda>":
        return None
    try:
        # The code object, not the function: a decorator by functools.wraps would show what it wraps.
        return ast.parse(textwrap.dedent(inspect.getsource(getattr(thing, "__code__", thing))))
    except (OSError, SyntaxError):
        return None


def _text(thing: types.FunctionType | type) -> str:
    """The source without comments, docstrings and layout; for a lambda or lost source the compiled code."""
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
