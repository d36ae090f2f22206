"""What is published: built, checked, installed into an environment of its own, and used from there."""

from __future__ import annotations

import email
import json
import os
import re
import subprocess
import tomllib
import zipfile

import pytest
from packaging.requirements import Requirement

from consul_access import __version__
from tools.audit import bill
from tools.wheels import ROOT, TOOLS, build, install

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOME_DAY = {"SOURCE_DATE_EPOCH": "1700000000"}
PLUGIN = """
import sys

def test_nothing_is_loaded_before_it_is_used():
    assert "consul_access.testing.plugin" in sys.modules
    assert not {"httpx", "httpcore", "pydantic", "anyio", "tenacity", "asyncio"} & set(sys.modules)

def test_a_registry_is_there_when_it_is_asked_for(registry):
    registry.register_service("orders", "10.0.0.5", 8080, check=None)
    assert str(registry.resolve("orders")) == "10.0.0.5:8080"
"""
IMPORTS = """
import importlib, json, pkgutil, consul_access
from consul_access import __all__ as names
for name in names:
    getattr(consul_access, name)
refused = {}
for module in pkgutil.walk_packages(consul_access.__path__, "consul_access."):
    if module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        refused[module.name] = str(error)
print(json.dumps([consul_access.__file__, consul_access.__version__, refused]))
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The wheel, made from the sdist, and the sdist."""
    wheel, sdist = build(tmp_path_factory.mktemp("dist"), environ=SOME_DAY)
    return wheel, sdist


@pytest.fixture(scope="module")
def python(published, tmp_path_factory):
    """The Python of an environment that has the wheel with its commands, and pytest."""
    return install(tmp_path_factory.mktemp("user") / "env", f"{published[0]}[cli]", "pytest")


@pytest.fixture
def user(python, tmp_path):
    """Runs a program of that environment, somewhere else than here."""

    def run(program, *arguments):
        command = [python.with_name(program), *arguments]
        environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)

    return run


def members(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def normal(name):
    """A package's name as indexes write it."""
    return re.sub("[-_.]+", "-", name).lower()


def metadata(wheel):
    (text,) = (data for name, data in members(wheel).items() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(text)


def test_an_index_would_take_them(published):
    command = [TOOLS / "twine", "check", "--strict", *published]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2
    name = f"consul_access-{__version__}"
    assert [path.name for path in published] == [f"{name}-py3-none-any.whl", f"{name}.tar.gz"]


def test_whoever_builds_them_gets_the_same_bytes(published, tmp_path):
    """The first wheel was made from the sdist, in another folder; this one on the other side of the world."""
    elsewhere = SOME_DAY | {"TZ": "Pacific/Auckland", "PYTHONHASHSEED": "7", "LC_ALL": "C"}
    again = build(tmp_path, "--wheel", "--sdist", environ=elsewhere, umask=0o077)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in published]


def test_the_wheel_has_the_package_and_nothing_else(published):
    package = ROOT / "consul_access"
    there = {
        str(path.relative_to(ROOT)) for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }
    rest = {name for name in members(published[0]) if ".dist-info/" not in name}
    assert rest == there
    assert "consul_access/py.typed" in rest
    about = {name.partition(".dist-info/")[2] for name in members(published[0])} - {""}
    assert about == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


def test_the_version_comes_from_one_place(published, user):
    assert metadata(published[0])["Version"] == __version__
    assert user("consul-access", "--version").stdout == f"consul-access {__version__}\n"
    assert "version" not in PROJECT
    for path in (*ROOT.glob("*.toml"), ROOT / "docs" / "conf.py", *(ROOT / "consul_access").rglob("*.py")):
        if path.name != "_version.py":
            assert f'"{__version__}"' not in path.read_text(), path


def test_what_it_needs_is_what_the_project_says(published):
    described = metadata(published[0])
    assert described["Requires-Python"] == PROJECT["requires-python"]
    needed = [Requirement(one) for one in described.get_all("Requires-Dist")]
    always = {str(one) for one in needed if one.marker is None}
    assert always == {str(Requirement(one)) for one in PROJECT["dependencies"]}
    for extra, wanted in PROJECT["optional-dependencies"].items():
        found = {f"{one.name}{one.specifier}" for one in needed if one.marker and one.marker.evaluate({"extra": extra})}
        here = [one for one in map(Requirement, wanted) if one.marker is None or one.marker.evaluate()]
        assert found == {f"{one.name}{one.specifier}" for one in here}
    assert set(described.get_all("Provides-Extra")) == set(PROJECT["optional-dependencies"])


def test_every_name_and_every_module_can_be_imported(user, python):
    done = user("python", "-I", "-W", "error", "-c", IMPORTS)
    assert done.returncode == 0, done.stderr
    place, version, refused = json.loads(done.stdout)
    assert place.startswith(str(python.parents[1]))
    assert version == __version__
    # They are made of what they integrate, and say how to have it.
    assert refused == {
        f"consul_access.integrations.{extra}": f"{what} is not installed: pip install 'consul-access[{extra}]'"
        for extra, what in (("opentelemetry", "opentelemetry-api"), ("prometheus", "prometheus_client"))
    } | dict.fromkeys(
        ("consul_access._live.line", "consul_access.wire2"),
        "h2 is not installed: pip install 'consul-access[http2]'",
    ) | dict.fromkeys(
        ("consul_access._async.grpc", "consul_access._sync.grpc", "consul_access.wire_grpc"),
        "hpack is not installed: pip install 'consul-access[http2]'",
    )


def test_the_command_answers(user):
    assert "\n  resolve " in user("consul-access", "--help").stdout
    nobody = user("consul-access", "resolve", "orders", "--http-addr", "127.0.0.1:1")
    assert (nobody.returncode, nobody.stdout) == (3, "")
    assert "127.0.0.1:1" in nobody.stderr


def test_pytest_finds_the_plugin_and_loads_nothing_for_it(user, tmp_path):
    (tmp_path / "test_it.py").write_text(PLUGIN)
    # anyio's own plugin, which comes along with httpx, loads much.
    done = user("pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:anyio", "test_it.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_the_list_of_its_parts_is_whole_and_always_the_same(python, tmp_path):
    first, again, checked = (tmp_path / name for name in ("first.json", "again.json", "checked.xml"))
    for target in (first, again):
        bill(python, target, "--no-validate")
    bill(python, checked, "--output-format", "XML", "--validate")  # JSON's own check takes seven seconds
    assert first.read_bytes() == again.read_bytes()
    listed = json.loads(first.read_text())
    ours = listed["metadata"]["component"]
    assert (ours["name"], ours["licenses"][0]["license"]["id"]) == ("consul-access", "MIT")
    parts = {normal(part["name"]): part for part in listed["components"]}
    installed = {path.name.split("-")[0] for path in python.parents[1].glob("lib/python*/site-packages/*.dist-info")}
    assert set(parts) == {normal(name) for name in installed} - {"consul-access"}
    assert all(part["purl"] == f"pkg:pypi/{name}@{part['version']}" for name, part in parts.items())
    needs = {each["ref"]: each.get("dependsOn", []) for each in listed["dependencies"]}
    direct = {Requirement(one).name for one in PROJECT["dependencies"]}
    assert direct <= {ref.partition("==")[0] for ref in needs[ours["bom-ref"]]}
