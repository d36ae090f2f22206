"""The fault laboratory: every scenario by its name, a soak of random faults, and what a stranger may send."""
