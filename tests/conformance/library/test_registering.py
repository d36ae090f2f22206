"""See `tests/faces/test_registering.py`."""

from tests.faces.test_registering import *  # noqa: F403

# The log of a process that crashes is the real one's.
del test_an_alias_of_an_unknown_node_does_crash_the_agent  # noqa: F821
