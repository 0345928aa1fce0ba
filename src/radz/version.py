"""The version of radz, without anything that would have to be imported."""

__version__ = "0.1.0"
