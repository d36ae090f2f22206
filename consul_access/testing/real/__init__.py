"""Real servers for tests: found, started on free ports, ready, and gone without a trace."""
