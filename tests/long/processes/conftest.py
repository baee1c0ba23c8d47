"""Fixtures for real processes, those of tests/processes/."""

from __future__ import annotations

from tests.processes.conftest import cluster as cluster
from tests.processes.conftest import cluster_directories as cluster_directories
from tests.processes.conftest import links as links
from tests.processes.conftest import pytest_generate_tests as pytest_generate_tests
from tests.processes.conftest import quick as quick
