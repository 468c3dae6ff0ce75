"""Object stores: what Spark, pyarrow and deltalake each need to reach one URI.

Credentials are in no ledger and no log: each engine finds them in the environment, a profile or the machine's role.
Those that a job gives to Spark alone (``spark.hadoop.fs.s3a.*``) become variables of its process, so that all engines
have the same. S3 is tested on a server of its protocol; the others are accepted, and were not run.

- pyarrow: https://arrow.apache.org/docs/python/generated/pyarrow.fs.S3FileSystem.html
- Spark: https://hadoop.apache.org/docs/current/hadoop-aws/tools/hadoop-aws/index.html
- deltalake: https://delta-io.github.io/delta-rs/usage/writing/writing-to-s3-with-locking-provider/
"""

from __future__ import annotations

import functools
import os
import re
from typing import TYPE_CHECKING

from pyarrow import fs

from spark_flow.errors import InvalidArgument, InvalidPath

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

SCHEMES = ("s3", "s3a", "abfs", "abfss", "gs", "hdfs")
_S3A = "spark.hadoop.fs.s3a."
_VARIABLES = {
    "access.key": "AWS_ACCESS_KEY_ID",
    "secret.key": "AWS_SECRET_ACCESS_KEY",
    "session.token": "AWS_SESSION_TOKEN",
    "endpoint": "AWS_ENDPOINT_URL",
    "endpoint.region": "AWS_REGION",
}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
_ENDPOINT = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_REGION = ("AWS_REGION", "AWS_DEFAULT_REGION")


def scheme_of(path: str) -> str:
    """Return the scheme of a URI, empty for a local path.

    >>> scheme_of("s3://bucket/key"), scheme_of("/local"), scheme_of("file:/local"), scheme_of("a:b")
    ('s3', '', '', '')

    Raises:
        InvalidPath: It is none that we know: ``dbfs:/x`` would silently be a local folder.
    """
    found = _SCHEME.match(path)
    scheme = found[1] if found else "file"
    if scheme == "file":
        return ""
    if scheme not in (*SCHEMES, "table") or not path.startswith(
        "://", len(scheme)
    ):  # table: what names.table_uri gives
        raise InvalidPath(path, path[: len(scheme) + 2], f"a URI begins with one of {', '.join(SCHEMES)}, and ://")
    return scheme


def canonical(uri: str) -> str:
    """Return the one way in which we record a URI: that of ``deltalake`` and pyarrow.

    >>> canonical("s3a://bucket/key/"), canonical("abfss://files@account.dfs.core.windows.net/key")
    ('s3://bucket/key', 'abfss://files@account.dfs.core.windows.net/key')
    """
    return re.sub(r"^s3a:", "s3:", uri.rstrip("/"))


def for_spark(uri: str) -> str:
    """Return a URI as Spark names it.

    >>> for_spark("s3://bucket/key"), for_spark("gs://bucket/key")
    ('s3a://bucket/key', 'gs://bucket/key')
    """
    return re.sub(r"^s3:", "s3a:", uri)


def filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    """Return pyarrow's file system of a URI, and the path within it.

    Raises:
        InvalidArgument: The S3 endpoint is http, and ``AWS_ALLOW_HTTP`` does not allow it.
    """
    if scheme_of(uri) not in ("s3", "s3a"):
        storage, inner = fs.FileSystem.from_uri(uri)
        return storage, inner
    return _s3(s3_endpoint(), _first(_REGION)), canonical(uri).partition("://")[2]


@functools.cache
def _s3(endpoint: str, region: str) -> fs.S3FileSystem:
    # pyarrow does not read these variables (apache/arrow 49643); without a region it asks the service for it.
    return fs.S3FileSystem(endpoint_override=endpoint or None, region=region or None)


def s3_endpoint() -> str:
    """Return the S3 endpoint of the environment; empty for that of AWS.

    Raises:
        InvalidArgument: It is http, and ``AWS_ALLOW_HTTP`` does not allow it, as ``deltalake`` demands.
    """
    endpoint = _first(_ENDPOINT)
    if endpoint.startswith("http:") and os.environ.get("AWS_ALLOW_HTTP", "").lower() not in ("true", "1"):
        raise InvalidArgument(
            "AWS_ENDPOINT_URL", endpoint, "https", "For a server of your own, set AWS_ALLOW_HTTP=true."
        )
    return endpoint


def needs_s3(schemes: Collection[str]) -> bool:
    """Whether some of the schemes are of S3, for which Spark has no library of its own."""
    return bool({"s3", "s3a"}.intersection(schemes))


def spark_settings(schemes: Collection[str]) -> dict[str, str]:
    """Return Spark's settings for the schemes that a job uses."""
    if not needs_s3(schemes):
        return {}
    endpoint, region = s3_endpoint(), _first(_REGION)
    found = {
        "endpoint": endpoint,
        "endpoint.region": region,
        "path.style.access": "true" if endpoint else "",  # a server of one's own has no host name for each bucket
        "connection.ssl.enabled": "false" if endpoint.startswith("http:") else "",
    }
    return {f"{_S3A}{name}": value for name, value in found.items() if value}


def variables(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with which pyarrow and ``deltalake`` use the same store as Spark with its settings.

    >>> variables({"spark.hadoop.fs.s3a.endpoint": "store:9000", "spark.hadoop.fs.s3a.access.key": "me"})
    {'AWS_ACCESS_KEY_ID': 'me', 'AWS_ENDPOINT_URL': 'https://store:9000'}
    """
    found = {name: settings[_S3A + key] for key, name in _VARIABLES.items() if settings.get(_S3A + key)}
    if endpoint := found.get("AWS_ENDPOINT_URL"):
        plain = settings.get(f"{_S3A}connection.ssl.enabled", "true") == "false"
        whole = endpoint if "://" in endpoint else f"{'http' if plain else 'https'}://{endpoint}"
        found |= {"AWS_ENDPOINT_URL": whole} | ({"AWS_ALLOW_HTTP": "true"} if whole.startswith("http:") else {})
    return found


def _first(variables: Collection[str]) -> str:
    return next((os.environ[name] for name in variables if os.environ.get(name)), "")
