"""The tool that writes one face from the other."""

from __future__ import annotations

import pytest

from tools import faces


@pytest.fixture
def folders(tmp_path, monkeypatch):
    source, twin = tmp_path / "_async", tmp_path / "_sync"
    source.mkdir()
    twin.mkdir()
    monkeypatch.setattr(faces, "SOURCE", source)
    monkeypatch.setattr(faces, "TWIN", twin)
    monkeypatch.setattr(
        faces, "RULES", {r"async def": "def", r"await ": "", r"\bAsync(?=[A-Z])": "", r"\baclose\b": "close"}
    )
    (source / "thing.py").write_text(
        "class AsyncThing:\n    async def work(self) -> None:\n        await self.aclose()\n\n"
        "    async def aclose(self) -> None: ...\n\n"
        "    # --- tasks only\n    async def only(self) -> None: ...\n    # --- end tasks only\n"
    )
    return source, twin


def test_names_are_exchanged_and_what_is_for_tasks_only_is_left_out(folders):
    _, twin = folders
    assert faces.main(check=False) == 0
    text = (twin / "thing.py").read_text()
    assert "class Thing:" in text
    assert "    def work(self) -> None:\n        self.close()\n" in text
    assert "only(" not in text
    assert text.startswith("# Written by tools/faces.py")


def test_a_check_passes_when_nothing_would_change(folders, capsys):
    faces.main(check=False)
    assert faces.main(check=True) == 0


def test_a_check_fails_and_shows_what_would_change(folders, capsys):
    source, _ = folders
    faces.main(check=False)
    (source / "thing.py").write_text((source / "thing.py").read_text().replace("work", "labour"))
    assert faces.main(check=True) == 1
    assert "+    def labour(self)" in capsys.readouterr().out


def test_a_twin_without_a_source_fails_the_check_and_is_removed(folders):
    _, twin = folders
    faces.main(check=False)
    (twin / "orphan.py").write_text("x = 1\n")
    assert faces.main(check=True) == 1
    assert faces.main(check=False) == 0
    assert not (twin / "orphan.py").exists()


def test_a_rule_that_nothing_uses_fails(folders, capsys):
    faces.RULES["never_there"] = "x"
    assert faces.main(check=False) == 1
    assert "never_there" in capsys.readouterr().out


def test_the_faces_in_the_repository_are_the_same():
    assert faces.main(check=True) == 0
