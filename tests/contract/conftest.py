"""The photographs of the probe's tests."""

from tests.probe.conftest import photographs

__all__ = ["photographs"]
