"""Drawn settings, and the cache of signatures: the same answers as the library gives."""

from __future__ import annotations

from random import Random

from p2pchat.core.log import verify
from p2pchat.identity.identity import Identity
from simulation.random_histories import RandomHistory
from simulation.virtual_time import cached_signatures, draw_settings, signer

ADA, BOB = (Identity.from_seed(bytes([n]) * 32) for n in (1, 2))


def test_cached_signatures_verify_like_the_library() -> None:
    signature = signer(ADA)(b"signed before")
    with cached_signatures():
        signed_now = signer(ADA)(b"signed now")
        for _ in range(2):  # from the library, then from the cache
            assert verify(ADA.peer_id, signature, b"signed before")
            assert verify(ADA.peer_id, signed_now, b"signed now")
            assert not verify(ADA.peer_id, signed_now, b"signed before")
            assert not verify(BOB.peer_id, signed_now, b"signed now")
            assert not verify(ADA.peer_id, signed_now[:-1] + bytes([signed_now[-1] ^ 1]), b"signed now")
            assert not verify("00" * 31, signed_now, b"signed now")


def test_a_history_is_the_same_with_and_without_the_cache() -> None:
    prints: list[str] = []
    for _ in range(2):
        history = RandomHistory(7)
        if prints:
            with cached_signatures():
                history.play()
        else:
            history.play()
        prints.append(history.sim.fingerprint())
    assert prints[0] == prints[1]


def test_a_page_of_read_marks_fits_the_names_of_its_conversations() -> None:
    """Otherwise the reader ends the link (seed 1000084)."""
    for harsh in (False, True):
        drawn = [draw_settings(Random(seed), harsh=harsh) for seed in range(200)]
        assert all(each.page_items <= 2 * each.page_marks for each in drawn)
