"""``module:name`` references of a YAML file to the user's own code."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import sys
import threading
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING

from spark_flow.errors import ConfigError, Problem, describe
from spark_flow.jobfile.model.problems import nearest

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

_DOTTED = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_REFERENCE = re.compile(rf"{_DOTTED}:{_DOTTED}")


_IMPORTS = threading.RLock()  # runs side by side read their files at once, and the import system's caches are one


def is_reference(text: str) -> bool:
    """Whether ``text`` reads ``module:name`` or ``package.module:name``.

    >>> is_reference("flights:SCHEMA"), is_reference("carrier STRING, delay INT")
    (True, False)
    """
    return _REFERENCE.fullmatch(text) is not None


def resolve(reference: str, *, beside: Path | None = None) -> object:
    """What ``module:name`` names.

    Args:
        reference: As written in the file, ``flights:clean`` or ``package.module:name``.
        beside: A folder of modules, such as the job's own. It is put on ``sys.path`` and stays there, as
            Python does with a script's folder, so that functions which import when called still work.

    Raises:
        ConfigError: With one problem: the module does not import, has no such name, or is beside the job while
            this process already has another module of that name.
    """
    if not is_reference(reference):
        raise _unresolved(reference, repr(reference), "module:function", "For example flights:clean.")
    module_name, _, dotted = reference.partition(":")
    with _IMPORTS:
        if beside is not None:
            _refuse_namesake(reference, module_name.partition(".")[0], beside)
            if str(beside) not in sys.path:
                sys.path.insert(0, str(beside))
    found: object = _module(reference, module_name)
    for name in dotted.split("."):
        found = _attribute(reference, found, name)
    return found


def _refuse_namesake(reference: str, name: str, beside: Path) -> None:
    """A process has one module of a name. A second project's would silently be the first one's, in the workers too."""
    loaded = sys.modules.get(name)
    if loaded is None:
        return
    spec = PathFinder.find_spec(name, [str(beside)])
    ours, other = spec and spec.origin, getattr(loaded, "__file__", None)
    if ours and (other is None or os.path.realpath(ours) != os.path.realpath(other)):
        found = f"a module {name!r} from {other or 'Python itself'}, which this process imported before"
        raise _unresolved(reference, found, ours, "Rename the module, or run each project in a process of its own.")


def _module(reference: str, name: str) -> ModuleType:
    try:
        with _IMPORTS:
            if name not in sys.modules:
                importlib.invalidate_caches()  # reads the archives on sys.path again, those of spark-submit among them
            return importlib.import_module(name)  # waits for one that another thread is still importing
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise _no_module(reference, error.name) from error
        found = describe(error)
        fix = "Fix that module."
        if "SESSION_OR_CONTEXT_NOT_EXISTS" in found:  # udf("double") parses the text of a type by a session
            fix = "The file is read before Spark starts: use Spark in functions only; for a UDF, udf(DoubleType())."
        raise _unresolved(
            reference, f"{found}, raised while importing {name!r}", "a module that imports", fix
        ) from error


def _no_module(reference: str, name: str) -> ConfigError:
    parent, _, leaf = name.rpartition(".")
    folders = getattr(sys.modules.get(parent), "__path__", None) if parent else sys.path
    known = [module.name for module in pkgutil.iter_modules(folders)]
    hint = nearest(leaf, known, cutoff=0.75) or "It is looked for beside the job and among installed packages."
    return _unresolved(reference, f"no module {name!r}", "a module that Python can import", hint)


def _attribute(reference: str, owner: object, name: str) -> object:
    try:
        return getattr(owner, name)
    except AttributeError as error:
        names = [known for known in dir(owner) if not known.startswith("_")]
        what = getattr(owner, "__name__", type(owner).__name__)
        hint = nearest(name, names) or f"It has {', '.join(_own(owner, names)[:8]) or 'no public name'}."
        raise _unresolved(reference, f"no {name!r} in {what}", f"a name of {what}", hint) from error


def _own(owner: object, names: list[str]) -> list[str]:
    """The names that the owner itself defines come before those it imports."""
    home = getattr(owner, "__name__", None)
    return sorted(names, key=lambda name: getattr(getattr(owner, name, None), "__module__", None) != home)


def _unresolved(reference: str, found: str, expected: str, fix: str) -> ConfigError:
    return ConfigError(reference, (Problem(reference, found, expected, fix),))
