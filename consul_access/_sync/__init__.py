# Written by tools/faces.py from consul_access/_async/__init__.py; edit that one.
"""The code that waits, written once for tasks; this is the twin for threads."""
