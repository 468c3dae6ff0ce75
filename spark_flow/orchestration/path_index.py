"""Compares paths and URIs: which of them are the same, contain another one, or are contained in it."""

from __future__ import annotations

import fnmatch
import os
from bisect import bisect_left
from typing import TYPE_CHECKING, TypeAlias

from spark_flow.storage import files

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

PathIdentity: TypeAlias = "tuple[str, ...]"
"""The storage, then one element per folder, so that ``out/trend2`` is not inside ``out/trend``."""

_ALIKE = {"s3a": "s3", "s3n": "s3", "abfss": "abfs", "gcs": "gs"}  # URI schemes of the same storage


class Finder:
    """Resolves paths, following symbolic links; each folder is looked up once."""

    def __init__(self) -> None:
        self._real: dict[str, str] = {"/": "/", "": ""}

    def identity(self, path: str) -> PathIdentity:
        """Return the elements of a path or URI, which need not exist."""
        full = files.absolute(path)
        if files.is_uri(full):
            scheme, _, rest = full.partition("://")
            return (_ALIKE.get(scheme, scheme), *filter(None, rest.split("/")))
        return ("", *filter(None, self._follow(full).split("/")))

    def _follow(self, path: str) -> str:
        if path not in self._real:
            above, name = os.path.split(path)
            there = os.path.join(self._follow(above), name)  # noqa: PTH118 - strings are faster for thousands of paths
            self._real[path] = os.path.realpath(there) if os.path.islink(there) else there  # noqa: PTH114 - as above
        return self._real[path]


class Index:
    """Sorted paths, in which the paths inside a folder are adjacent."""

    def __init__(self, identities: Collection[PathIdentity]) -> None:
        self._known = frozenset(identities)
        self._order = sorted(self._known)

    def around(self, identity: PathIdentity) -> Iterator[PathIdentity]:
        """Return the indexed paths that contain ``identity``, without itself."""
        return (identity[:n] for n in range(1, len(identity)) if identity[:n] in self._known)

    def touched_by(self, identity: PathIdentity) -> Iterator[PathIdentity]:
        """Yield the indexed paths that equal, contain or are inside ``identity``, which may be a Hadoop glob."""
        plain = next((n for n, name in enumerate(identity) if any(c in name for c in "*?[{")), len(identity))
        fixed, pattern = identity[:plain], identity[plain:]
        yield from self.around(fixed)
        for at in range(bisect_left(self._order, fixed), len(self._order)):
            found = self._order[at]
            if found[:plain] != fixed:
                return
            if _fits(found[plain:], pattern):
                yield found


def _fits(names: PathIdentity, pattern: PathIdentity) -> bool:
    """Return whether folder names may match a pattern, up to the shorter of the two."""
    for name, wanted in zip(names, pattern, strict=False):
        if "{" in wanted:
            return True  # alternatives may contain slashes: a false match is safer than a missed one
        if name != wanted and not fnmatch.fnmatchcase(name, wanted.replace("[^", "[!")):
            return False
    return True
