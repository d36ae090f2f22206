"""What watches tell while members are killed and frozen and the store is compacted, over gRPC."""

from tests.faults.test_history import (  # noqa: F401 - told here as well
    test_n07_watches_tell_the_history_of_a_few_faults,
    test_n07_watches_tell_the_history_of_a_minute,
)
