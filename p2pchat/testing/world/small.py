"""Settings for simulations: small, so that a few messages cross every boundary and a history is short.

Each history draws its own, so that no rule holds only because two numbers fit each other. Harsh ones let limits bite:
who is refused something for good cannot end with all others alike, so only what must never happen is judged then.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from p2pchat.config import KIB, Settings

SMALL = Settings(
    max_batch_entries=4, page_items=3, page_marks=3, fetch_batches=2, max_endpoints_a_peer=3, buffer_limit_bytes=KIB,
    redial_most=5.0, redial_never_reached_most=10.0, want_progress_timeout=3.0, order_wait=8.0, order_wait_most=40.0,
    recent_places=8,
)  # fmt: skip


QUOTA_BATCH = 2 * KIB  # bytes of a batch where quotas are small: a long text of a history fits


def draw_settings(chance: Random, *, harsh: bool) -> Settings:
    """Return settings of one history."""
    pick = chance.choice
    drawn = replace(
        SMALL,
        max_batch_entries=pick((2, 3, 4, 4, 9)),
        max_batch_bytes=pick((2 * KIB, SMALL.max_batch_bytes)),
        page_items=pick((1, 3, 3, 50)),
        page_marks=pick((1, 2, 3, 3, 50)),
        fetch_batches=pick((1, 2, 2, 5)),
        max_wants=pick((1, 2, 64)),
        max_before=pick((2, 8, 8)),
        max_older=pick((2, 24)),
        max_endpoints_a_peer=pick((2, 3, 8)),
        buffer_limit_bytes=pick((256, KIB, KIB, 16 * KIB)),
        recent_places=pick((3, 8, 1000)),
        redial_most=pick((2.0, 5.0)),
        redial_never_reached_most=pick((5.0, 10.0)),
        told_dial_after=pick((0.2, 1.0)),
        told_failures_before_slow=pick((1, 16)),
        want_progress_timeout=pick((2.0, 3.0, 5.0)),
        want_after=pick((0.3, 1.0)),
        gossip_within=pick((0.3, 1.0)),
        order_wait=pick((2.0, 4.0, 8.0)),
        consumer_saved_after=pick((0.1, 1.0, 5.0)),
        left_grace=pick((1.0, 2.0)),
        dead_after=pick((20.0, 30.0)),
        stuck_after=pick((10.0, 30.0)),
        clone_patience=pick((10.0, 30.0)),
        superseded_runs=pick((1, 8)),
        flood_a_second=pick((20, 100)),
        flood_burst=pick((30, 500)),
        wrong_head_ban=pick((20.0, 3600.0)),
    )
    return _harsh(drawn, chance) if harsh else drawn


def with_quota(drawn: Settings, chance: Random) -> Settings:
    """Return the same settings with little room for what each user writes: two batches or a few more."""
    quota = chance.choice((2, 2, 3, 4)) * QUOTA_BATCH
    return replace(drawn, max_batch_bytes=QUOTA_BATCH, user_quota_bytes=quota)


def _harsh(drawn: Settings, chance: Random) -> Settings:
    pick = chance.choice
    return replace(
        drawn,
        max_tips=pick((1, 1, 1, 2)),
        max_links=pick((1, 2, 3, 256)),
        max_conversations_a_user=pick((1, 1, 2, 10_000)),
        handshake_timeout=pick((0.5, 10.0)),
        go_timeout=pick((0.5, 10.0)),
    )
