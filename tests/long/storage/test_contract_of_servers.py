"""The contract of storage on database servers: the tests of tests/storage/, with other fixtures (conftest.py)."""

# ruff: noqa: F403

from __future__ import annotations

from tests.storage.test_contract import *
from tests.storage.test_deletion import *
from tests.storage.test_export import *
from tests.storage.test_fetch import *
from tests.storage.test_references import *
from tests.storage.test_views import *
