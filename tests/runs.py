"""Runs opened with the fields of their mode and permission as plain keywords: what most tests vary."""

import dataclasses

import spark_flow as sf
from spark_flow.engine.mode import Mode, Permission
from spark_flow.engine.node import Target


def new_run(pipeline, key, **options):
    """`Run.open`, where `rerun=True` stands for `mode=Mode(rerun=True)`, and so on."""

    for name, kind in (("mode", Mode), ("permission", Permission)):
        fields = {each.name for each in dataclasses.fields(kind)} & set(options)
        options[name] = dataclasses.replace(options.get(name, kind()), **{each: options.pop(each) for each in fields})
    return sf.Run.open(pipeline, key, **options)


class FakeTarget(Target):
    """A target that answers by functions."""

    def __init__(self, *, remembered=lambda: 0, lack=lambda _: ""):
        self._remembered, self._lack = remembered, lack

    def last_revision(self):
        return self._remembered()

    def why_invalid(self, event):
        return self._lack(event)
