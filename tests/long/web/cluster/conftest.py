"""A nats-server for the gateways of a cluster, in place of the engine that links peers."""

from tests.web.cluster.doors import engine as engine
