"""The version, where the build reads it and everything else can."""

__version__ = "0.1.0"
