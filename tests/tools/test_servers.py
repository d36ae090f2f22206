"""Where real servers come from."""

from __future__ import annotations

import os
import subprocess

import pytest

from consul_access.testing.real import binaries
from tools import servers

DEB822 = """\
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/some.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""
CLASSIC = """\
# deb http://commented.example/debian bookworm main
deb [arch=amd64] http://mirror.example/debian bookworm main contrib
deb http://mirror.example/security bookworm-security main
deb-src http://mirror.example/debian bookworm main
"""


def test_the_named_binary_wins(monkeypatch, tmp_path):
    binary = tmp_path / "my-consul"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    monkeypatch.setenv("CONSUL_BIN", str(binary))
    assert servers.consul() == binary


def test_a_named_binary_that_is_none_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("CONSUL_BIN", str(tmp_path / "nothing"))
    with pytest.raises(binaries.ServerMissing, match="CONSUL_BIN"):
        servers.consul()


def test_the_binary_that_is_used_is_a_consul():
    version = subprocess.run([servers.consul(), "version"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("Consul v")


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        (DEB822, ["deb [signed-by=/usr/share/keyrings/some.gpg] http://mirror.example/debian bullseye main"]),
        (CLASSIC, ["deb [arch=amd64] http://mirror.example/debian bullseye main"]),
        ("", []),
    ],
)
def test_the_machines_own_mirror_is_asked_for_another_release(text, entries):
    assert list(binaries._entries(text, "bullseye")) == entries


def test_without_apt_the_error_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CONSUL_BIN", raising=False)
    with pytest.raises(binaries.ServerMissing, match="set CONSUL_BIN"):
        servers.consul()


def test_nothing_is_fetched_unless_that_is_asked_for_and_what_was_fetched_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("ETCD_BIN", raising=False)
    monkeypatch.setattr(binaries, "_fetched", lambda package: pytest.fail("it was fetched"))
    with pytest.raises(binaries.ServerMissing, match=r"no etcd on PATH.*ETCD_BIN.*--require-servers"):
        binaries.find(binaries.ETCD)
    cached = tmp_path / "consul-access" / "servers" / "etcd-server-bookworm" / "usr" / "bin" / "etcd"
    cached.parent.mkdir(parents=True)
    cached.touch()
    assert binaries.find(binaries.ETCD) == cached


@pytest.mark.parametrize(("find", "version"), [(servers.etcd, "3."), (servers.etcd_newer, "3.5")])
def test_the_etcd_servers_are_of_two_generations(find, version):
    told = subprocess.run([find(), "--version"], capture_output=True, text=True, check=True)
    assert told.stdout.startswith(f"etcd Version: {version}")


def test_a_server_that_stands_for_its_version_is_not_taken_from_path(monkeypatch, tmp_path):
    stray = tmp_path / "etcd"
    stray.write_text("#!/bin/sh\n")
    stray.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("ETCD_BIN", raising=False)
    monkeypatch.delenv("ETCD_NEWER_BIN", raising=False)
    assert servers.etcd() == stray
    assert servers.etcd_newer() != stray
