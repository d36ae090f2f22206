"""How the documentation is built: Sphinx, MyST, Furo; `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

from consul_access import __version__
from tools import reference

project = "consul-access"
author = "the consul-access authors"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "consul-access"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_class_signature = "separated"
napoleon_google_docstring = True
default_role = "code"
nitpicky = True
exclude_patterns = ["conftest.py"]


def as_written(*event: Any) -> None:
    """Docstrings are written for whoever reads the source; this is what reStructuredText wants beyond that."""
    *_, lines = event
    lines[:] = reference.with_literal_blocks(lines)


def as_meant(*event: Any) -> None:
    """Napoleon takes what stands before a colon in an attribute's docstring for a type."""
    _, what, *_, lines = event
    if what in {"attribute", "property", "data"} and lines and lines[-1].startswith(":type: "):
        lines[0] = f"{lines.pop().removeprefix(':type: ')}: {lines[0]}"


def complete(_: Sphinx, env: BuildEnvironment) -> None:
    """Warns of public names that the reference does not have."""
    described = {described for described, *_ in env.domains["py"].get_objects()}
    for name in reference.missing(reference.public_names(), described):
        logging.getLogger(__name__).warning("the reference lacks %s", name, location="reference")


def setup(app: Sphinx) -> None:
    """Connects the functions above."""
    app.connect("autodoc-process-docstring", as_written, priority=100)  # before napoleon
    app.connect("autodoc-process-docstring", as_meant, priority=900)  # after it
    app.connect("env-check-consistency", complete)
