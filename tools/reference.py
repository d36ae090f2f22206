"""Which names are public, and so have to be in the reference; docs/conf.py asks when the documentation is built."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["missing", "public_names", "with_literal_blocks"]

FOR_USERS = (
    "consul_access",
    "consul_access.testing",
    "consul_access.testing.conformance",
    "consul_access.compat.etcd3",
)
SECTIONS = {"consul_access.consul": (), "consul_access.etcd": ("texts", "watch"), "consul_access.integrations": ()}
"""Packages whose modules are for users, and those of their modules that are not: what an error's text means, and a
stream that nobody can read without a watch."""


def public_modules() -> list[str]:
    """The modules that users import."""
    found = list(FOR_USERS)
    for package, kept in SECTIONS.items():
        module = importlib.import_module(package)
        names = getattr(module, "__all__", None) or [one.name for one in pkgutil.iter_modules(module.__path__)]
        found += [f"{package}.{name}" for name in names if not name.startswith("_") and name not in kept]
    return found


def public_names() -> dict[str, frozenset[str]]:
    """Every public name, and the names that it may be described by: an error may be found where it is defined."""
    found = {}
    for name in public_modules():
        module = importlib.import_module(name)
        for one in module.__all__:
            home = getattr(getattr(module, one), "__module__", name)
            found[f"{name}.{one}"] = frozenset({f"{name}.{one}", f"{home}.{one}", f"consul_access.{one}"})
    return found


def missing(public: Mapping[str, Iterable[str]], described: Iterable[str]) -> list[str]:
    """The public names that are not described by any of their names."""
    there = frozenset(described)
    return sorted(name for name, names in public.items() if there.isdisjoint(names))


def with_literal_blocks(lines: Sequence[str]) -> list[str]:
    """A docstring in which every indented block below a blank line is literal, as Markdown and readers take it."""
    found: list[str] = []
    for number, line in enumerate(lines):
        begins = line.startswith("    ") and number > 1 and not lines[number - 1] and lines[number - 2][:1].strip()
        if begins and found[-2].endswith(":") and not found[-2].endswith("::"):
            found[-2] += ":"
        elif begins and not found[-2].endswith("::"):
            found += ["::", ""]
        found.append(line)
    return found
