"""The fixtures of the quick tests of the gateway."""

from tests.web.conftest import home as home
from tests.web.conftest import serve as serve
from tests.web.conftest import served as served
