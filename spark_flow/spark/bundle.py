"""The driver's environment as an archive, for machines whose Python has no spark_flow.

See https://spark.apache.org/docs/latest/api/python/tutorial/python_packaging.html ("Using Virtualenv").
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from typing import TYPE_CHECKING

from spark_flow.errors import EnvironmentTooOld, InvalidArgument

if TYPE_CHECKING:
    from pathlib import Path

# Spark's jars are those of the cluster, and take more room than all the rest.
_LEFT_OUT = ("*/site-packages/pyspark/jars/*", "*/site-packages/pyspark/examples/*", "*/__pycache__/*")


def bundle(out: Path) -> int:
    """Write this Python's virtual environment without Spark's jars to a ``.tar.gz`` or ``.zip``; returns its bytes.

    Raises:
        EnvironmentTooOld: venv-pack is missing.
        InvalidArgument: This Python is in no virtual environment, or that has editable packages, which are elsewhere.
    """
    if sys.prefix == sys.base_prefix:
        raise InvalidArgument("bundle", f"{sys.executable}, in no virtual environment", "one made by python -m venv")
    if editable := _editable():
        fix = "Make the wheel (make wheel in a clone of spark_flow), and install it into another virtual environment."
        raise InvalidArgument("bundle", f"editable packages: {', '.join(editable)}", "packages that are installed", fix)
    try:
        import venv_pack
    except ImportError as error:
        raise EnvironmentTooOld("bundle", "no venv-pack", "venv-pack", "pip install venv-pack") from error
    packed = venv_pack.Env(sys.prefix)
    for pattern in _LEFT_OUT:
        packed = packed.exclude(pattern)
    packed.pack(output=str(out), force=True, verbose=sys.stderr.isatty())
    return out.stat().st_size


def _editable() -> list[str]:
    """Return the packages that are links to a folder elsewhere, which venv-pack does not notice (PEP 610)."""
    found = {each.metadata["Name"]: each.read_text("direct_url.json") for each in importlib.metadata.distributions()}
    return sorted(name for name, url in found.items() if url and json.loads(url).get("dir_info", {}).get("editable"))
