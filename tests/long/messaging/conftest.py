"""The fixtures of tests/messaging/."""

from tests.messaging.conftest import home, net

__all__ = ["home", "net"]
