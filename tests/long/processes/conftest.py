"""Fixtures for real processes, as in tests/processes/conftest.py."""

from __future__ import annotations

from tests.processes.conftest import cluster, cluster_directories, links, pytest_generate_tests, quick

__all__ = ["cluster", "cluster_directories", "links", "pytest_generate_tests", "quick"]
