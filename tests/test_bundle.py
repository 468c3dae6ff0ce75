"""``spark-flow bundle``: what it refuses. That a bundle is used is tested on a cluster (``make cluster``)."""

import sys

import pytest

from spark_flow.errors import EnvironmentTooOld, InvalidArgument
from spark_flow.spark import bundle as bundles


def test_an_environment_with_links_to_folders_elsewhere_is_refused(tmp_path):
    with pytest.raises(InvalidArgument, match=r"editable packages: .*spark-flow"):
        bundles.bundle(tmp_path / "e.tar.gz")
    assert list(tmp_path.iterdir()) == []


def test_a_python_in_no_virtual_environment_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    with pytest.raises(InvalidArgument, match="no virtual environment"):
        bundles.bundle(tmp_path / "e.tar.gz")


def test_without_venv_pack_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(bundles, "_editable", list)
    monkeypatch.setitem(sys.modules, "venv_pack", None)
    with pytest.raises(EnvironmentTooOld, match="pip install venv-pack"):
        bundles.bundle(tmp_path / "e.tar.gz")
