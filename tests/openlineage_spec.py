"""OpenLineage's rules for events, as JSON Schema.

No package ships the published schema files, and tests do without a network. So the core (what an event, a run, a
job, a dataset and a facet must have) is written here by the specification's words, and the facets are taken from
the classes of openlineage-python, which its makers generate from the published files: they have each facet's
properties, which of them are required, their types, and the version and address of the file itself.
"""

from __future__ import annotations

import enum
import importlib
import json
import pkgutil
import types
import typing
import uuid
from pathlib import Path

import attr
from jsonschema import Draft202012Validator, FormatChecker
from openlineage.client import generated
from openlineage.client.generated import base

SHIPPED = Path(__file__).parents[1] / "spark_flow" / "schemas" / "completeness-facet.json"
CORE = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
TEXT, URI, TIME = {"type": "string"}, {"type": "string", "format": "uri"}, {"type": "string", "format": "date-time"}
FACET = {
    "type": "object",
    "properties": {"_producer": URI, "_schemaURL": URI},
    "required": ["_producer", "_schemaURL"],
}
FACETS = {"type": "object", "additionalProperties": FACET}


def named(**facets):
    """A job, or a dataset with its facets."""
    return {
        "type": "object",
        "properties": {"namespace": TEXT, "name": TEXT, "facets": FACETS, **facets},
        "required": ["namespace", "name"],
    }


EVENT = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "eventType": {"enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]},
        "eventTime": TIME,
        "producer": URI,
        "schemaURL": {"const": CORE},
        "run": {
            "type": "object",
            "properties": {"runId": {"type": "string", "format": "uuid"}, "facets": FACETS},
            "required": ["runId"],
        },
        "job": named(),
        "inputs": {"type": "array", "items": named(inputFacets=FACETS)},
        "outputs": {"type": "array", "items": named(outputFacets=FACETS)},
    },
    "required": ["eventTime", "producer", "schemaURL", "run", "job"],
}


def wrong_with(event):
    """What is wrong with an event, and with each of its facets; empty when it is valid."""
    found = _errors(EVENT, event)
    if found:
        return found
    for name, facet in facets_of(event):
        schema = FACET_SCHEMAS.get(facet.get("_schemaURL", ""))
        if schema is not None:
            found += [f"{name}: {error}" for error in _errors(schema, facet)]
        elif facet["_producer"].startswith("urn:spark-flow"):
            found.append(f"{name}: {facet['_schemaURL']} is no schema that is known")
    return found


def wrong_with_all(events):
    """The same of many, and whether each run has one START, then one end, and nothing of ours after it."""
    found = [error for event in events for error in wrong_with(event)]
    for run in {event["run"]["runId"] for event in events}:
        kinds = [event["eventType"] for event in events if event["run"]["runId"] == run]
        ends = [kind for kind in kinds if kind in ("COMPLETE", "FAIL", "ABORT")]
        if kinds.count("START") != 1 or len(ends) != 1 or kinds[0] != "START":
            found.append(f"{run}: {kinds}")
    return found


def facets_of(event):
    """All facets of an event with their names."""
    datasets = [*event.get("inputs", []), *event.get("outputs", [])]
    holders = [event["run"], event["job"], *datasets]
    keys = ("facets", "inputFacets", "outputFacets")
    return [pair for holder in holders for key in keys for pair in holder.get(key, {}).items()]


def _errors(schema, value):
    checker = FormatChecker()
    checker.checks("uuid", ValueError)(lambda text: bool(uuid.UUID(text)))
    return [
        f"{error.json_path}: {error.message}"
        for error in Draft202012Validator(schema, format_checker=checker).iter_errors(value)
    ]


# ------------------------------------------------------------------------- facets, from the generated classes


def _facet_schemas():
    classes = {}
    for module in pkgutil.iter_modules(generated.__path__):
        for made in vars(importlib.import_module(f"{generated.__name__}.{module.name}")).values():
            if isinstance(made, type) and issubclass(made, base.BaseFacet):
                classes[made._get_schema()] = made
    shipped = json.loads(SHIPPED.read_text())
    ours = {f"{shipped['$id']}#/$defs/{name}": {**shipped, "$ref": f"#/$defs/{name}"} for name in shipped["$defs"]}
    return {url: _of_class(made) for url, made in classes.items()} | ours


def _of_class(made):
    hints = typing.get_type_hints(made)
    fields = [field for field in attr.fields(made) if field.name not in ("_producer", "_schemaURL")]
    return {
        "type": "object",
        "properties": {field.name: _of_type(hints[field.name]) for field in fields},
        "required": [field.name for field in fields if field.default is attr.NOTHING],
    }


PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}


def _of_type(hint):
    if hint in PLAIN:
        return {"type": PLAIN[hint]}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"enum": [each.value for each in hint]}
    arguments = [_of_type(each) for each in typing.get_args(hint) if each is not type(None)]
    return {
        list: lambda: {"type": "array", "items": arguments[0]},
        dict: lambda: {"type": "object", "additionalProperties": arguments[1]},
        typing.Union: lambda: {"anyOf": arguments},
        types.UnionType: lambda: {"anyOf": arguments},
    }.get(typing.get_origin(hint), lambda: _nested(hint) if attr.has(hint) else {})()


_OPEN: set[type] = set()


def _nested(made):
    if made in _OPEN:
        return {"type": "object"}  # a field may hold fields
    _OPEN.add(made)
    try:
        return _of_class(made)
    finally:
        _OPEN.discard(made)


FACET_SCHEMAS = _facet_schemas()
