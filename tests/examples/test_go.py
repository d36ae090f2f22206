"""HashiCorp's own Go client and this library at one agent: each finds what the other has registered."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from consul_access import ConsulAccess, TtlCheck

SOURCE = Path(__file__).parent / "go"
CLIENT = "github.com/hashicorp/consul/api v1.34.5"


def go():
    return shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The Go program, built; the first time on a machine takes half a minute, later ones a fraction of a second."""
    command = go()
    if command is None:
        pytest.skip(f"there is no Go on this machine to build a program with {CLIENT}")
    fetched = subprocess.run(
        [command, "mod", "download", *CLIENT.split()[:1]], cwd=SOURCE, capture_output=True, text=True, check=False
    )
    if fetched.returncode:
        pytest.skip(f"{CLIENT} cannot be had: {fetched.stderr.strip()[-300:]}")
    target = tmp_path_factory.mktemp("go") / "program"
    built = subprocess.run(
        [command, "build", "-o", str(target), "."], cwd=SOURCE, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return target


@pytest.fixture
def runs(program, consul):
    """Runs the program against the agent; gives what it prints."""

    def run(*arguments):
        environ = os.environ | {"CONSUL_HTTP_ADDR": consul.address}
        done = subprocess.run(
            [str(program), *arguments], env=environ, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


def test_what_go_registers_is_found_here(runs, consul):
    runs("register", "orders", "orders-go", "10.0.0.5", "8080")
    with ConsulAccess(url=consul.url) as access:
        (instance,) = access.instances("orders", tags="go", meta={"language": "go"})
        assert instance.id == "orders-go"
        assert instance.address == ("10.0.0.5", 8080)
        assert instance.tags == ("go", "v1")
        assert instance.weight == 7
        assert instance.status == "passing"
        access.fail_check("service:orders-go", "as we see it")
        assert access.search_service("orders") == []
    assert runs("find", "orders") == []


def test_what_is_registered_here_go_finds(runs, consul):
    with ConsulAccess(url=consul.url) as access:
        with access.registered(
            "orders",
            "10.0.0.6",
            9090,
            id="orders-python",
            tags=["v1", "v2"],
            meta={"language": "python"},
            check=TtlCheck(30),
        ):
            assert runs("find", "orders") == ["orders-python 10.0.0.6:9090 [v1 v2] python 1 passing"]
            runs("register", "orders", "orders-go", "10.0.0.5", "8080")
            assert len(runs("find", "orders")) == 2
        assert [line.split()[0] for line in runs("find", "orders")] == ["orders-go"]
