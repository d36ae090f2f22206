"""What the pages about py-consul and python-consul begin their calls with; both have the module name `consul`."""

from importlib.util import find_spec

import consul  # type: ignore[import-not-found]

c = consul.Consul()
for name in ("aio", "tornado", "twisted"):  # some can no longer be imported, and are there all the same
    if find_spec(f"consul.{name}"):
        setattr(consul, name, None)
