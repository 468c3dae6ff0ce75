"""Paths and URIs as places that can be compared: which lie at, around or within one another."""

from __future__ import annotations

import fnmatch
import os
from bisect import bisect_left
from typing import TYPE_CHECKING, TypeAlias

from spark_flow.storage import files

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

Place: TypeAlias = "tuple[str, ...]"
"""Its storage, then folder by folder: ``out/trend2`` does not lie within ``out/trend``."""

_ALIKE = {"s3a": "s3", "s3n": "s3", "abfss": "abfs", "gcs": "gs"}  # one storage by the names of several clients


class Finder:
    """Where paths lead, links followed; the disk is asked once for each folder."""

    def __init__(self) -> None:
        self._real: dict[str, str] = {"/": "/", "": ""}

    def place(self, path: str) -> Place:
        """The place of a path or URI, whether or not it is there."""
        place = files.absolute(path)
        if files.is_uri(place):
            scheme, _, rest = place.partition("://")
            return (_ALIKE.get(scheme, scheme), *filter(None, rest.split("/")))
        return ("", *filter(None, self._follow(place).split("/")))

    def _follow(self, path: str) -> str:
        if path not in self._real:
            above, name = os.path.split(path)
            there = os.path.join(self._follow(above), name)  # noqa: PTH118 - thousands of paths: text is faster
            self._real[path] = os.path.realpath(there) if os.path.islink(there) else there  # noqa: PTH114 - as above
        return self._real[path]


class Index:
    """Places in order, so that those within another one stand together."""

    def __init__(self, places: Collection[Place]) -> None:
        self._known = frozenset(places)
        self._order = sorted(self._known)

    def around(self, place: Place) -> Iterator[Place]:
        """The places that a place lies within, itself not among them."""
        return (place[:n] for n in range(1, len(place)) if place[:n] in self._known)

    def touched_by(self, place: Place) -> Iterator[Place]:
        """The places that reading a place may read of: at it, around it, within it; it may be a pattern of Hadoop's."""
        plain = next((n for n, name in enumerate(place) if any(c in name for c in "*?[{")), len(place))
        fixed, pattern = place[:plain], place[plain:]
        yield from self.around(fixed)
        for at in range(bisect_left(self._order, fixed), len(self._order)):
            found = self._order[at]
            if found[:plain] != fixed:
                return
            if _fits(found[plain:], pattern):
                yield found


def _fits(names: Place, pattern: Place) -> bool:
    """Whether folders may be of a pattern, as far as both go."""
    for name, wanted in zip(names, pattern, strict=False):
        if "{" in wanted:
            return True  # its alternatives may hold folders of their own: better one too many than one too few
        if name != wanted and not fnmatch.fnmatchcase(name, wanted.replace("[^", "[!")):
            return False
    return True
