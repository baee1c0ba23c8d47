"""The compared systems: modules of benchmarks.others with their configurations."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any


@dataclass(frozen=True, slots=True)
class System:
    """One configuration of one module.

    `alike` are the p2pchat variants that do the same and no more. The system is compared with the first of them that is
    in the work, else with the work's first p2pchat variant.
    """

    name: str
    module: str
    variant: dict[str, str] = field(default_factory=dict)
    alike: tuple[str, ...] = ()

    @property
    def code(self) -> Any:
        return import_module(f"benchmarks.others.{self.module}")

    @property
    def ours(self) -> bool:
        return self.module in ("own", "frames_only")


MANY = System("p2pchat, stored", "own")
GATHER = System("p2pchat, 2,000 send at once", "own", {"way": "gather"})
MEMORY_LOOP = System("p2pchat in memory, plain loop", "own", {"way": "loop", "db": "memory://"})
MEMORY_MANY = System("p2pchat in memory", "own", {"db": "memory://"})
ENTRIES = System("p2pchat, frames of entries, 256 each", "frames_only", {"way": "entries"})
FRAMES = System("p2pchat, one frame a message", "frames_only")
JETSTREAM = System("NATS JetStream", "jetstream")
JETSTREAM_SYNC = System("NATS JetStream, sync always", "jetstream", {"sync": "always"})
REDIS = System("Redis Streams, fsync always", "redis_streams")

# Systems that store nothing and send one by one are compared with p2pchat doing the same.
SINGLY = (FRAMES.name, MEMORY_LOOP.name, MEMORY_MANY.name)
IN_MEMORY = (MEMORY_MANY.name,)
WEBSOCKETS = System("websockets (TLS)", "websocket", alike=SINGLY)
WEBSOCKETS_256 = System("websockets (TLS), lists of 256", "websocket", {"way": "json"})
PYZMQ = System("pyzmq", "zeromq", alike=SINGLY)
PYZMQ_PUBLISH = System("pyzmq, PUB", "zeromq", {"way": "publish"}, alike=IN_MEMORY)
PYZMQ_256 = System("pyzmq, send_multipart of 256", "zeromq", {"way": "parts"})
ZENOH = System("zenoh", "zenoh_peers", alike=SINGLY)
ZENOH_256 = System("zenoh, z_serialize of 256", "zenoh_peers", {"way": "list"})
ZENOH_GOSSIP = System("zenoh", "zenoh_peers", {"gossip": "yes"})
PYRE = System("Pyre SHOUT", "pyre_mesh", alike=IN_MEMORY)
STREAMS = System("asyncio streams, json", "streams_json", alike=SINGLY)
