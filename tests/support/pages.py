"""The pages of the documentation, and the file that runs them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent.parent
_ELSEWHERE = {".venv", ".git", ".ci", "node_modules", ".pytest_cache", "dist", "build"}

PAGES = sorted(
    str(page.relative_to(ROOT))
    for page in ROOT.rglob("*.md")
    if not _ELSEWHERE & set(page.relative_to(ROOT).parts[:-1])
)


def load_root_conftest() -> ModuleType:
    """The conftest.py beside the README, whose name others share."""
    spec = importlib.util.spec_from_file_location("consul_access_root_conftest", ROOT / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
