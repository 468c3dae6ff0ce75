"""The lineage of a job: where its events go."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, StrictBool, ValidationInfo, field_validator

from spark_flow.jobfile.model.base import FilePath, Model, Text
from spark_flow.jobfile.model.problems import refuse
from spark_flow.lineage.transport import Target, Transport
from spark_flow.storage import files

_OF = {"path": "file", "url": "http", "api_key": "http"}


class LineageModel(Model):
    """Events by OpenLineage; its keys are those of ``spark_flow.lineage.Target``.

    Attributes:
        transport: Where events go: to a ``file``, by ``http``, or to the ``console``.
        path: The file of events; by default ``<state>/lineage.jsonl``.
        url: The address of the service.
        api_key: The name of an environment variable that holds the service's key.
        namespace: The namespace of the jobs.
        spark_events: Also send the events of OpenLineage's Spark listener; under spark-submit start with
            ``LINEAGE=yes``.
    """

    transport: Transport = "file"
    path: FilePath | None = None
    url: Annotated[Text | None, Field(validate_default=True)] = None
    api_key: Text | None = None
    namespace: Text = "spark_flow"
    spark_events: StrictBool = False

    @field_validator("path", "url", "api_key")
    @classmethod
    def _is_of_the_transport(cls, value: str | None, info: ValidationInfo) -> str | None:
        key, transport = str(info.field_name), info.data.get("transport")
        if value is not None and transport not in (None, _OF[key]):
            raise refuse(f"{key} with transport {transport}", f"transport {_OF[key]}", "Leave it out.")
        return value

    @field_validator("path")
    @classmethod
    def _path_is_local(cls, value: str | None) -> str | None:
        if value is not None and files.is_uri(value):
            raise refuse(
                repr(value), "a local path", "Storage of objects cannot be appended to; for example lineage.jsonl."
            )
        return value

    @field_validator("url")
    @classmethod
    def _url_is_one(cls, value: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("transport") != "http":
            return value
        example = "For example http://localhost:5000."
        if value is None:
            raise refuse("nothing", "the address of the service", example)
        try:
            parts = urlsplit(value)
            known = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
        except ValueError:
            known = False
        if not known:
            raise refuse("something else", "an address of http or https", example)
        if parts.username or parts.password or parts.query:
            fix = "Put the key into an environment variable and its name into api_key."
            raise refuse("an address with more than host and path", "one without user, password and query", fix)
        return value

    @field_validator("api_key")
    @classmethod
    def _key_is_a_variable(cls, value: str | None) -> str | None:
        if value is not None and not value.isidentifier():
            raise refuse("something else", "the name of an environment variable that holds the key")
        return value

    def target(self, state: str) -> Target:
        """Where events go; by default a file in the state folder."""
        return Target(
            transport=self.transport,
            path=(self.path or f"{state}/lineage.jsonl") if self.transport == "file" else "",
            url=self.url or "",
            api_key=self.api_key or "",
            namespace=self.namespace,
            spark_events=self.spark_events,
        )
