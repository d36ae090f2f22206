"""The Pythons and the dependencies that pyproject.toml allows, from one end to the other: `make versions`.

A session for each Python that it names, as far as the machine has it, and for both ends of what may be installed
beside it: `oldest` takes the lower bound of every requirement, or the first release after it that has a wheel for this
Python; `newest` takes what a user gets today.
"""

from __future__ import annotations

import os
import shutil
import subprocess

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv"
nox.options.envdir = ".venv/nox"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False  # the session says that it is skipped, and why
nox.options.reuse_venv = "yes"

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)
EXTRAS = ",".join(PROJECT["project"]["optional-dependencies"])
ENDS = {"oldest": "lowest-direct", "newest": "highest"}
# One is built here although it has no wheel, as its users have to do; and this project itself.
BUILT = ("etcd3", "consul-access")
TESTS = (
    *(f"tests/test_{name}.py" for name in ("call", "exports", "settings", "wire", "wire2", "wire_grpc")),
    "tests/models",
    *(f"tests/faces/test_{name}.py" for name in ("grpc_faults", "health", "multiplexed", "reading", "registering")),
    "tests/faces/test_transport.py",
    *(f"tests/testing/test_{name}.py" for name in ("memory", "plugin")),
    "tests/cli/test_app.py",
    *(f"tests/live/test_{name}.py" for name in ("asgi", "wsgi", "django", "gunicorn", "grpc", "health_server")),
    *(f"tests/live/test_{name}.py" for name in ("discovery", "metrics", "tracing")),
)
"""What depends on the Python and on other people's code; the rules do not."""

pyenv = shutil.which("pyenv")
if pyenv and "PYENV_VERSION" not in os.environ:
    # Its commands answer for no version but those that are switched on.
    listed = subprocess.run([pyenv, "versions", "--bare"], capture_output=True, text=True, check=True).stdout.split()
    os.environ["PYENV_VERSION"] = ":".join(one for one in listed if one.startswith(tuple(PYTHONS)))


@nox.session(python=PYTHONS)
@nox.parametrize("end", list(ENDS))
def tests(session: nox.Session, end: str) -> None:
    """Both faces, the models, the framework integrations, the test kit and the commands."""
    wheels = ["--only-binary", ":all:", *(f"--no-binary={name}" for name in BUILT)]
    session.install("-e", f".[{EXTRAS}]", "--group", "test", f"--resolution={ENDS[end]}", "--upgrade", *wheels)
    session.run("pytest", "-q", "-n", "2", "--dist", "worksteal", *(session.posargs or TESTS))
