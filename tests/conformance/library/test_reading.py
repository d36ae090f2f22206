"""See `tests/faces/test_reading.py`."""

from tests.faces.test_reading import *  # noqa: F403
