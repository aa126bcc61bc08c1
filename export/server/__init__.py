"""A local stand-in for TensorFlow Serving: the same services, statuses and version rules, for development and tests."""

from export.server.local_server import LocalServer

__all__ = ["LocalServer"]
