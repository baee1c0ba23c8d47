"""The web gateway: browsers and scripts as equal users of the mesh. Needs the extra `web`.

    app = create_app(peer)      # a FastAPI application, to be run or mounted in another one

Each name is imported when it is first used, because accounts can be managed without the extra.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from p2pchat.web.app import create_app as create_app
    from p2pchat.web.gateway import Gateway as Gateway
    from p2pchat.web.settings import Pace as Pace
    from p2pchat.web.settings import WebSettings as WebSettings

_MODULES = {"create_app": "app", "Gateway": "gateway", "Pace": "settings", "WebSettings": "settings"}

__all__ = ["Gateway", "Pace", "WebSettings", "create_app"]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'p2pchat.web' has no attribute {name!r}")
    return getattr(import_module(f"p2pchat.web.{_MODULES[name]}"), name)
