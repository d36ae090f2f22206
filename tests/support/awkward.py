"""Names that services should not have, and do."""

from __future__ import annotations

AWKWARD = [
    "a/b", "a b", "a?b", "a#b", "a%2Fb", "a&b=c", "ä", "☃", "a+b", "a;b", "a:b@c", "x" * 500, "..a", "a..", "-",
]  # fmt: skip
"""Those that an agent can be asked for, if they are quoted well."""
REFUSED = ["", ".", "..", "a\nb", "a\rb", "a\x00b", "\x7f", "\ud800"]
"""Those that no agent can be asked for."""
