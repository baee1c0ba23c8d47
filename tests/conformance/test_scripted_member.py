"""What the members of the conformance kit write themselves."""

from __future__ import annotations

import json

from p2pchat.core.members.statement import is_guest
from p2pchat.protocol import GuestCertificate
from p2pchat_conformance.runner import listening_kit


async def test_the_logs_of_the_kits_members_say_who_answers_for_them() -> None:
    kit, _ = await listening_kit(seed="tests")
    try:
        member = kit.member("ada")
        headers = [json.loads(member.log(conversation).header) for conversation in ("", member.dm())]
    finally:
        await kit.aclose()
    assert kit.network.member is not None
    assert [header["by"][0] for header in headers] == [kit.network.member.peer_id] * 2
    assert all(is_guest(kit.network.id, member.id, GuestCertificate(*header["by"])) for header in headers)
