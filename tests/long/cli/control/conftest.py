"""Fixtures for peers with control sockets, those of tests/cli/control/."""

from __future__ import annotations

from tests.cli.control.conftest import home as home
from tests.cli.control.conftest import serve as serve
