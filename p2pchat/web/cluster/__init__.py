"""Gateways as one: several gateways with one set of accounts, which they keep in an engine (NATS with JetStream).

Each is a peer with its own database, and the logs are the truth: the engine only carries records of accounts. It may
forget, repeat, withhold or change them, be wiped, and be run by somebody curious. Every record is encrypted with the
key of the cluster and bound to its place, versions only rise, and each gateway writes again what the engine lost.
"""
