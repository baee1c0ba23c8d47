"""The web gateway: browsers and scripts as equal users of the mesh. Needs the extra `web`.

    app = create_app(peer)      # a FastAPI application, to be run or mounted in another one

All but the settings are imported when they are first used, because accounts can be managed without the extra.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from p2pchat.extras import missing_extra
from p2pchat.web.web_settings import Pace, WebSettings

if TYPE_CHECKING:
    from p2pchat.web.accounts import Accounts as Accounts
    from p2pchat.web.app import create_app as create_app
    from p2pchat.web.callers import Caller as Caller
    from p2pchat.web.gateway_state import Gateway as Gateway

__all__ = ["Accounts", "Caller", "Gateway", "Pace", "WebSettings", "create_app"]

_MODULES = {"create_app": "app", "Gateway": "gateway_state", "Caller": "callers", "Accounts": "accounts"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'p2pchat.web' has no attribute {name!r}")
    try:
        module = import_module(f"p2pchat.web.{_MODULES[name]}")
    except ModuleNotFoundError as error:
        raise ImportError(missing_extra(f"p2pchat.web.{name} needs {error.name}", "web")) from error
    return getattr(module, name)
