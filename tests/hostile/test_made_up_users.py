"""One admitted member writes as hundreds of made-up users: inboxes stay small, and newcomers get through."""

from __future__ import annotations

from collections import Counter

from p2pchat.core.sync.known_conversations import MAX_OF_MEMBER
from p2pchat.protocol import Ping, Pong
from tests.deadlines import WAIT, until
from tests.hostile.attacker import appearing, group_of, invented_identity, letter_of
from tests.hostile.test_expelled import Logins, additions, logins  # noqa: F401

USERS, GROUPS_EACH = 400, 5


async def test_made_up_users_of_one_member_have_places_together(logins: Logins) -> None:  # noqa: F811
    ada = await logins.start("ada")
    await (await logins.join("eve", ada)).aclose()
    eve = logins.attacker("eve", logins.identity("eve"), additions(ada, logins.network("eve")), "eve")
    await eve.join(ada.port)
    users = [invented_identity(f"made up {number}") for number in range(USERS)]
    frames = [group_of(eve, user, f"buy {n}") for user in users for n in range(GROUPS_EACH)]
    await eve.flood([*appearing(eve, users), *(letter_of(eve, user) for user in users), *frames, Ping()])
    await eve.next(Pong)
    bob = await logins.join("bob", ada)
    await (await bob.send("ada", "hello")).delivered(timeout=WAIT)
    await (await bob.create_group("ops", ["ada"])).send("look here")
    await until(lambda: "ops" in {group.name for group in ada.groups()}, "the group of a newcomer")
    stored = [one for one in ada.unanswered() if one.has_place]
    of_bob = [one for one in stored if one.user == ada.user("bob")]
    groups = Counter(one.user for one in stored if one.conversation.kind == "group")
    assert len(stored) - len(of_bob) == MAX_OF_MEMBER and len(of_bob) == 2 and max(groups.values()) == 3
    assert len(ada.groups()) <= MAX_OF_MEMBER - USERS + 1
    refused = [one for one in ada.unanswered() if not one.has_place]
    assert 0 < len(refused) <= 256
