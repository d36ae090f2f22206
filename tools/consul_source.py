"""Builds a Consul of another release than the distribution's, from its source, into the user's cache folder.

    CONSUL_BIN="$(python -m tools.consul_source)" make test

Needs Go, and some minutes the first time. What it downloads comes from where Go is set up to take modules from. This is
the last release whose source, as a module, goes together with published releases of the modules inside it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

RELEASE = "1.10.4"
MODULE = "github.com/hashicorp/consul"
INSIDE = {"api": "v1.10.0", "sdk": "v0.9.0"}
"""Modules that the source expects in folders of its own, which a module does not hold."""
FLAGS = "-checklinkname=0 -X github.com/hashicorp/consul/version.VersionPrerelease="


def find() -> Path:
    """The program; it is built if it is not there yet."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "consul-access"
    program = home / f"consul-{RELEASE}"
    if not program.exists():
        if shutil.which("go") is None:
            sys.exit(f"Consul {RELEASE} is built with Go, and there is none on PATH")
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home) as scratch:
            made = _built(Path(scratch))
            made.rename(program)  # in one step: nobody ever sees half of it
    return program


def _built(scratch: Path) -> Path:
    source = scratch / "source"
    _copied(f"{MODULE}@v{RELEASE}", source)
    shutil.rmtree(source / "vendor", ignore_errors=True)  # a module has but the list of what was in it
    for name, version in INSIDE.items():
        _copied(f"{MODULE}/{name}@{version}", source / name)
    command = ["go", "build", "-mod=mod", "-buildvcs=false", "-ldflags", FLAGS, "-o", str(scratch / "consul"), "."]
    subprocess.run(command, cwd=source, check=True)
    return scratch / "consul"


def _copied(module: str, where: Path) -> None:
    """Go's own copy cannot be written to."""
    command = ["go", "mod", "download", "-json", module]
    told = subprocess.run(command, cwd=where.parent, capture_output=True, text=True, check=False)
    found = json.loads(told.stdout or "{}")
    if "Dir" not in found:
        sys.exit(f"{module} cannot be had: {found.get('Error') or told.stderr}")
    shutil.rmtree(where, ignore_errors=True)
    shutil.copytree(found["Dir"], where)
    for path in (where, *where.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)


if __name__ == "__main__":
    print(find())
