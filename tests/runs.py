"""Runs opened with the fields of their mode and permission as plain keywords: what most tests vary."""

import dataclasses

import spark_flow as sf
from spark_flow.engine.mode import Mode, Permission
from spark_flow.engine.node import Target


def opened(pipeline, key, **options):
    """`Run.open`, where `rerun=True` stands for `mode=Mode(rerun=True)`, and so on."""

    def taken(kind):
        names = {each.name for each in dataclasses.fields(kind)} & set(options)
        return kind(**{name: options.pop(name) for name in names})

    return sf.Run.open(pipeline, key, mode=taken(Mode), permission=taken(Permission), **options)


class FakeTarget(Target):
    """A target that answers by functions."""

    def __init__(self, *, remembered=lambda: 0, lack=lambda _: ""):
        self._remembered, self._lack = remembered, lack

    def last_revision(self):
        return self._remembered()

    def why_invalid(self, event):
        return self._lack(event)
