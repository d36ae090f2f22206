"""The tool that asks for known flaws: no answer is no good news."""

from __future__ import annotations

import sys
from pathlib import Path

from tools.audit import flaws, judged

SOUND = {"name": "httpx", "version": "0.28.1", "vulns": []}
FLAWED = {"name": "h11", "version": "0.14", "vulns": [{"id": "GHSA-vqfr-h8mv-ghfj", "fix_versions": ["0.16.0"]}]}
UNKNOWN = {"name": "anyio", "skip_reason": "not found: anyio (4.8.0)"}
OURS = {"name": "consul-access", "skip_reason": "not found: consul-access (0.1.0)"}


def test_known_and_sound_is_0():
    assert judged([SOUND, OURS]) == (["1 parts are known to the service, 0 flaws of theirs"], 0)


def test_a_flaw_is_1_and_says_what_mends_it():
    found = judged([SOUND, FLAWED, UNKNOWN])
    assert found.code == 1
    assert found.lines[0] == "h11 0.14: GHSA-vqfr-h8mv-ghfj, mended in 0.16.0"


def test_a_service_that_knows_nothing_of_the_parts_is_3():
    found = judged([SOUND, UNKNOWN])
    assert found.code == 3
    assert found.lines[0] == "of 1 of 2 parts nothing is known: not found: anyio (4.8.0)"
    assert judged([OURS]).code == 3


def test_a_service_that_does_not_answer_is_3(monkeypatch, free_port):
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port}")
    found = flaws(Path(sys.executable))
    assert found.code == 3
    assert "does not answer" in found.lines[0]
    assert f"port={free_port}" in found.lines[0]
