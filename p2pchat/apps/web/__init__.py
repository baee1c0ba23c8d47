"""The web gateway: people with nothing but a browser, and scripts, as equals in the mesh. Needs the extra `web`.

app = create_app(peer)      # a FastAPI application, to run or to mount in one's own
"""

from __future__ import annotations

from p2pchat.apps.web.app import create_app as create_app
from p2pchat.apps.web.gateway import Gateway as Gateway
from p2pchat.apps.web.settings import WebSettings as WebSettings

__all__ = ["Gateway", "WebSettings", "create_app"]
