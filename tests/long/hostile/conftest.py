"""The fixtures of tests/hostile/."""

from tests.hostile.conftest import cluster, cluster_directories, meet

__all__ = ["cluster", "cluster_directories", "meet"]
