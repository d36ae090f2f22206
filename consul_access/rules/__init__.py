"""Decisions. Nothing in here waits, looks at the clock or throws dice: time and randomness are passed in."""
