"""The pages for those who come from other clients: each call in their tables could be made, there and here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import consul_access
import consul_access.etcd.kv
from consul_access import ConsulAccess, EtcdRegistry, KeyEvent, KeyWatch, Lease
from consul_access.consul import agent, catalog, health, status
from tests.support import signatures
from tests.support.pages import ROOT

HERE = Path(__file__).parent
PEERS = ROOT / ".venv" / "migrating"
THEIRS = {
    "docs/migrate/py-consul.md": ("py-consul 1.8.0", "py_consul.py"),
    "docs/migrate/python-consul.md": ("python-consul 1.1.0", "py_consul.py"),
    "docs/etcd/from-etcd3.md": ("etcd3 0.12.0", "etcd3_package.py"),
}
FIRST_GUIDE = "docs/deploy/first-guide.md"
CODE = re.compile(r"`([^`]+)`")
A_CLASS = re.compile(r"[A-Z]\w*[a-z]\w*")


def rows(page: str, heading: str) -> Iterator[tuple[str, str]]:
    """The first two cells of the rows of each table that begins with this heading."""
    inside = False
    for line in (ROOT / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            inside = False
        elif inside and not cells[0].startswith("---"):
            yield cells[0], cells[1]
        inside = inside or cells[:1] == [heading]


def snippets(cell: str) -> list[str]:
    """What is code in a cell: calls, dotted names, and names of classes."""
    return [code for code in CODE.findall(cell) if "(" in code or "." in code or A_CLASS.fullmatch(code)]


@cache
def our_names() -> dict[str, Any]:
    """What the right columns begin their calls with."""
    public = {name: getattr(consul_access, name) for name in consul_access.__all__}
    sections = {"agent": agent, "catalog": catalog, "health": health, "status": status, "consul_access": consul_access}
    things = {"access": ConsulAccess(port=1), "etcd": EtcdRegistry(port=1), "event": KeyEvent}
    handles = {"lease": object.__new__(Lease), "watch": object.__new__(KeyWatch)}
    return public | sections | things | handles


def packages(peer: str) -> list[str]:
    """Where Python finds a peer, besides where it finds all else."""
    name, version = peer.split()
    if name == "etcd3":
        return []  # it is among the packages that the tests run with
    folder = PEERS / name
    if not list(folder.glob(f"{name.replace('-', '_')}-{version}.dist-info")):
        pytest.skip(f"{peer} is not in {folder}: it is put there when make sets .venv up")
    return [str(folder)]


@pytest.mark.parametrize("page", THEIRS)
def test_every_call_to_move_from_can_be_made_there(page):
    heading, names = THEIRS[page]
    code = [code for left, _ in rows(page, heading) for code in snippets(left)]
    path = os.pathsep.join([*packages(heading), str(ROOT)])
    done = subprocess.run(
        [sys.executable, signatures.__file__, HERE / "peers" / names],
        input=json.dumps(code),
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
    assert len(code) >= 20


@pytest.mark.parametrize("page", [*THEIRS, FIRST_GUIDE])
def test_every_call_to_move_to_can_be_made_here(page):
    heading = THEIRS[page][0] if page in THEIRS else "the first guide"
    table = list(rows(page, heading))
    assert len(table) >= 3
    for _, right in table:
        code = snippets(right)
        assert code or "not offered" in right, right
        for one in code:
            assert signatures.complaints(one, our_names()) == []


def test_the_calls_of_the_first_guide_can_still_be_made():
    code = [code for left, _ in rows(FIRST_GUIDE, "the first guide") for code in snippets(left)]
    assert [trouble for one in code for trouble in signatures.complaints(one, our_names())] == []
    assert len(code) == 3


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("access.instance('a')", "there is no access.instance"),
        ("access.instances('a', tag='b')", "there is no option 'tag'"),
        ("access.instances()", "missing a required argument: 'name'"),
        ("access.register_service('a', checks=[HttpCheck(intervall='1s')])", "unexpected keyword argument 'intervall'"),
        ("Weights(passing=1, Warning=2)", "there is no field 'Warning'"),
        ("access.send(health.check('a'))", "there is no health.check"),
        ("Access()", "there is no Access"),
        ("NotAnError", "there is no NotAnError"),
        ("agent.nothing", "there is no agent.nothing"),
        ("access.instances(", "'(' was never closed"),
    ],
)
def test_a_call_that_could_not_be_made_is_found(code, complaint):
    (found,) = signatures.complaints(code, our_names())
    assert found.endswith(complaint)


def test_tables_are_read():
    (first, *_) = rows("docs/migrate/py-consul.md", "py-consul 1.8.0")
    assert first[0].startswith("`consul.Consul(host=")
    assert snippets("`a.b`, `c(d)`, `e`, `F`, `Name`, or `g=`") == ["a.b", "c(d)", "Name"]
