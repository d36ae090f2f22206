"""The library's own tests of looking up and registering, once more, against the fake."""
