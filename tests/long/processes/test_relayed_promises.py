"""Stories of tests/test_promises.py with peers that listen on no socket and are linked through an engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import test_promises as stories
from tests.nats import NatsServer, missing

pytestmark = stories.pytestmark
net = stories.net

test_read_was_marked_as_read_and_stays_so = stories.test_read_was_marked_as_read_and_stays_so
test_who_was_offline_gets_all_in_order_with_its_times = stories.test_who_was_offline_gets_all_in_order_with_its_times
test_order_is_that_of_writing_and_the_same_for_all = stories.test_order_is_that_of_writing_and_the_same_for_all
test_who_was_removed_is_heard_by_nobody_who_knows = stories.test_who_was_removed_is_heard_by_nobody_who_knows
test_what_is_deleted_is_gone_here_and_does_not_return = stories.test_what_is_deleted_is_gone_here_and_does_not_return


@pytest.fixture
def engine() -> Iterator[str]:
    if why := missing():
        pytest.skip(why)
    server = NatsServer()
    yield server.url
    server.kill()
