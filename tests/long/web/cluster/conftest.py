"""A nats-server for the gateways of a cluster."""

from tests.web.cluster.doors import engine as engine
