"""The tool that installs what was built."""

from __future__ import annotations

from tools import wheels


def test_it_takes_packages_from_where_pip_does(monkeypatch, tmp_path):
    for name in ("PIP_INDEX_URL", "PIP_FIND_LINKS", "UV_DEFAULT_INDEX", "UV_FIND_LINKS", "UV_INDEX"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = http://one.example/simple\nfind-links = /wheels\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("UV_FIND_LINKS", "/mine")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "http://two.example/simple")
    found = wheels.index()
    assert (found["UV_DEFAULT_INDEX"], found["UV_INDEX"]) == ("http://one.example/simple", "http://two.example/simple")
    assert "UV_FIND_LINKS" not in found
