"""Runs the examples of the README and of the documentation, each page beside a real agent of its own.

Blocks of `python` and `sh` are run as they are; blocks of `console` as `tests.support.console` says. One that cannot be
run here says so in a line above it (`tests.support.blocks`). Pages below docs/etcd, and those about the command line
and about a cluster's etcd, have a real etcd as well, which also holds what a real Kubernetes API server wrote. Pages
below docs/deploy find the folders deploy and examples beside them, as in a copy of the repository. The tutorial is one
story in three terminals, which tests/site follows.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser
from sybil.sybil import SybilCollection

from tests.support.agents import ConsulAgent
from tests.support.blocks import UnlessMarked
from tests.support.console import differences, failure
from tests.support.etcd import EtcdServer
from tools import servers

ROOT = Path(__file__).parent
SAMPLES = ROOT / "tests" / "samples" / "k8s-etcd-samples.json"


def begin(namespace: dict[str, Any]) -> None:
    """An agent that CONSUL_HTTP_ADDR names, and an empty folder to be in."""
    stack = namespace["_page"] = contextlib.ExitStack()
    agent = stack.enter_context(ConsulAgent())
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    binaries = {"CONSUL_BIN": str(servers.consul()), "ETCD_BIN": str(servers.etcd())}
    # gunicorn puts its control socket at home.
    stack.enter_context(mock.patch.dict(os.environ, {"CONSUL_HTTP_ADDR": agent.address, "HOME": folder, **binaries}))
    stack.enter_context(contextlib.chdir(folder))


def begin_in_repository(namespace: dict[str, Any]) -> None:
    """The same, and the folders that a reader has who copied the repository."""
    begin(namespace)
    for name in ("deploy", "examples"):
        Path(name).symlink_to(ROOT / name)


def end(namespace: dict[str, Any]) -> None:
    namespace["_page"].close()


def run_session(example: Example) -> str | None:
    """A block of `console`."""
    return differences(example.parsed)


def run_script(example: Example) -> str | None:
    """A block of `sh`."""
    return failure(example.parsed)


def begin_with_etcd(namespace: dict[str, Any]) -> None:
    """The same, and an etcd that ETCDCTL_ENDPOINTS names."""
    begin(namespace)
    stack = namespace["_page"]
    server = stack.enter_context(EtcdServer())
    stack.enter_context(mock.patch.dict(os.environ, {"ETCDCTL_ENDPOINTS": server.address}))
    (objects,) = (one for one in json.loads(SAMPLES.read_text())["sets"] if one["name"] == "protobuf")
    for entry in objects["entries"]:
        server.put(entry["key"], base64.b64decode(entry["value_b64"]))


PARSERS = [
    UnlessMarked(PythonCodeBlockParser()),
    UnlessMarked(CodeBlockParser("console", run_session)),
    UnlessMarked(CodeBlockParser("sh", run_script)),
    SkipParser(),
]
DEPLOY_PAGES = ["docs/deploy/*.md"]
ELSEWHERE = ["docs/tutorial.md"]
ETCD_PAGES = ["docs/etcd/*.md", "docs/cli.md", "docs/deploy/etcd-kubernetes.md"]

pytest_collect_file = SybilCollection(
    [
        Sybil(
            parsers=PARSERS,
            patterns=["*.md"],
            excludes=DEPLOY_PAGES + ETCD_PAGES + ELSEWHERE,
            setup=begin,
            teardown=end,
        ),
        Sybil(parsers=PARSERS, patterns=DEPLOY_PAGES, excludes=ETCD_PAGES, setup=begin_in_repository, teardown=end),
        Sybil(parsers=PARSERS, patterns=ETCD_PAGES, setup=begin_with_etcd, teardown=end),
    ]
).pytest()
