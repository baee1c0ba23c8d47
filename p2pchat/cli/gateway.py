"""A gateway behind another server, which is told the name of this file.

    uvicorn p2pchat.cli.gateway:app     # as `p2pchat web`

Its options are variables, as P2PCHAT_NAME.
"""

from __future__ import annotations

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from p2pchat import TCPPeer
from p2pchat.cli.gateway_run import GatewayRun
from p2pchat.cli.process import Shutdown
from p2pchat.cli.subcommands.web import environment_options
from p2pchat.cli.web_socket_protocol import WebSocketProtocol as WebSocketProtocol  # for --ws (docs/gateway.md)
from p2pchat.commands.exit_codes import exit_code
from p2pchat.safe_text import safe_line


class EnvironmentGateway:
    """The ASGI application of a gateway with a peer of its own, whose options are variables: `app` below.

    The server has to support ASGI's lifespan, and to run one process.
    """

    def __init__(self) -> None:
        self._app: FastAPI | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._run(receive, send)
        elif self._app is None:
            raise RuntimeError("the gateway has not started: its server has to support ASGI's lifespan")
        else:
            await self._app(scope, receive, send)

    async def _run(self, receive: Receive, send: Send) -> None:
        """Run the gateway from the server's start to its stop; report an error as one line."""
        await receive()

        async def serve(peer: TCPPeer, app: FastAPI) -> str:
            self._app = app
            run.announce_peer(peer)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            return "terminated"

        try:
            run = GatewayRun(*environment_options())
            await run.run_behind(serve, Shutdown())
        except Exception as error:  # exit_code() raises what is not an error of p2pchat again
            exit_code(error)
            phase = "startup" if self._app is None else "shutdown"
            await send({"type": f"lifespan.{phase}.failed", "message": f"p2pchat: {safe_line(str(error))}"})
        else:
            await send({"type": "lifespan.shutdown.complete"})


app: EnvironmentGateway = EnvironmentGateway()
