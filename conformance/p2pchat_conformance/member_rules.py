"""Rules about members: who is admitted, what is shown for it, invites, and statements that are told on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from p2pchat import protocol as wire
from p2pchat.core.log import hash_of
from p2pchat.core.members.admission import prove_invite
from p2pchat.core.members.statement import (
    ADD,
    ADMIN,
    CLOSE,
    PARDON,
    REMOVE,
    SIGNATURE_TAG,
    Statement,
    is_guest,
    make_guest,
    make_statement,
    network_id,
    parse_statement,
)
from p2pchat.core.members.statement_exchange import SUM_TAG
from p2pchat.core.node_context import Invitation
from p2pchat.errors import InviteError
from p2pchat.identity.identity import Identity
from p2pchat.identity.invite_text import parse_invite
from p2pchat_conformance.awaited_frames import RuleSkipped, ScriptedLink, check, now_us
from p2pchat_conformance.group_rules import order
from p2pchat_conformance.runner import Kit, rule
from p2pchat_conformance.scripted_member import ScriptedMember

AT_ONCE = 8.0  # seconds: less than a sum takes to go round three links, one in about ten seconds
LONG = 1 << 39  # UTC seconds, far in the future


def told_in(said: tuple[str, str], frame: wire.Statements) -> bool:
    return said in frame.s


def pair(said: Statement) -> tuple[str, str]:
    return said.text, said.signature.hex()


def wrong_memberships(kit: Kit, member: ScriptedMember) -> Iterator[tuple[str, wire.Membership]]:
    """Yield what shows nothing for a member of the kit, each with a name."""
    id, founder, answers, zoe = kit.network.id, kit.network.founder or None, kit.network.member, kit.identity("zoe")
    assert answers is not None
    own = make_guest(id, zoe.peer_id, zoe.sign, member.id)
    by_zoe = make_statement(id, zoe.peer_id, zoe.sign, ADD, now_us(), {"who": [zoe.peer_id]})
    yield "nothing", wire.Membership(founder)
    yield "a certificate of another user", wire.Membership(founder, kit.network.guest(zoe.peer_id))
    of_another = make_guest("00" * 16, answers.peer_id, answers.sign, member.id)
    yield "a certificate of another network", wire.Membership(founder, of_another)
    forged = make_guest(id, answers.peer_id, member.identity.sign, member.id)
    yield "a certificate that the member in it did not sign", wire.Membership(founder, forged)
    yield "a certificate of nobody", wire.Membership(founder, own)
    yield "an addition by nobody", wire.Membership(founder, own, (pair(by_zoe),))


@rule
async def only_members_and_their_guests_are_admitted(kit: Kit) -> None:
    for place, (name, _) in enumerate([*wrong_memberships(kit, kit.member("ada"))]):
        link = await kit.dial(kit.member(f"ada-{place}"))
        await link.prove_keys()
        link.send(wire.Show([*wrong_memberships(kit, link.member)][place][1]))
        await link.ended("member", after=name)


@rule
async def the_client_admits_members_and_their_guests_only(kit: Kit) -> None:
    for place in (0, 1, 3, 4):
        link = await kit.accept(kit.member(f"ada-{place}"))
        name, shown = [*wrong_memberships(kit, link.member)][place]
        await link.prove_keys(shown)
        await link.ended("member", after=name)


@rule
async def forged_statements_admit_nobody(kit: Kit) -> None:
    link, zoe = await kit.dial(kit.member("ada")), kit.identity("zoe")
    shown = await link.prove_keys()
    founder = shown.founder or kit.network.founder
    forged = make_statement(kit.network.id, founder, zoe.sign, ADD, now_us(), {"who": [zoe.peer_id]})
    certificate = make_guest(kit.network.id, zoe.peer_id, zoe.sign, link.member.id)
    link.send(wire.Show(wire.Membership(founder, certificate, (pair(forged),))))
    await link.ended("member", after="an addition of its member that the founder did not sign")


def check_shown(kit: Kit, shown: wire.Membership) -> None:
    """Check what the candidate shows."""
    check(shown.founder is None or network_id(shown.founder) == kit.network.id, "the hash of `founder` is not N")
    if shown.guest is not None:
        check(is_guest(kit.network.id, kit.candidate, shown.guest), "the certificate in `guest` is wrong")


@rule
async def the_server_shows_its_member(kit: Kit) -> None:
    link = await kit.dial(kit.member("ada"))
    check_shown(kit, await link.prove_keys())
    await link.next(wire.Welcome, where=lambda one: one.show is not None)


@rule
async def the_client_shows_its_member(kit: Kit) -> None:
    link = await kit.accept(kit.member("ada"))
    await link.prove_keys()
    check_shown(kit, (await link.next(wire.Show)).show)


@rule
async def frames_before_admit_are_in_turn(kit: Kit) -> None:
    for place, frame in enumerate((wire.Ping(), wire.Peers(), wire.Go("a1" * 8, 1), wire.Admit())):
        link = await kit.dial(kit.member(f"ada-{place}", decides=True))
        await link.prove_keys()
        link.send(frame)
        await link.ended("order", after=f"`{frame.__struct_config__.tag}` in place of `show`")


@rule
async def statements_may_come_before_admit(kit: Kit) -> None:
    link = await kit.dial(kit.member("ada"))
    await link.prove_keys()
    link.send(wire.Statements(), wire.Show(link.shown()))
    await link.next(wire.Admit)
    await link.go()
    await link.introduce()


@rule
async def go_waits_for_admit(kit: Kit) -> None:
    link = await kit.accept(kit.member("ada"))
    await link.prove_keys()
    await link.next(wire.Show)
    other = await kit.join("bob")
    await other.echoed("any go before admit?")
    check(not any(isinstance(one, wire.Go) for one in link.frames), "`go` came before `admit` was sent")
    link.send(wire.Admit())
    await link.go()
    await link.introduce()


@rule
async def statements_that_are_shown_count(kit: Kit) -> None:
    link, zoe = await kit.dial(kit.member("ada")), kit.identity("zoe")
    await link.prove_keys()
    said = kit.say(ADD, who=[zoe.peer_id])
    certificate = make_guest(kit.network.id, zoe.peer_id, zoe.sign, link.member.id)
    link.send(wire.Show(wire.Membership(kit.network.founder, certificate, (pair(said),))))
    await link.next(wire.Admit, "`admit` for a guest that shows how its member was added")


# ---- invites


async def newcomer(kit: Kit, name: str, member: Identity, invitation: Invitation) -> ScriptedLink:
    """Return a connection of a new peer that has shown an invite for a member of its own."""
    link = await kit.dial(kit.member(name))
    await link.prove_keys()
    certificate = make_guest(kit.network.id, member.peer_id, member.sign, link.member.id)
    invite = prove_invite(invitation, link.t, member.peer_id)
    link.send(wire.Show(wire.Membership(kit.network.founder or None, certificate, invite=invite)))
    return link


@rule
async def only_the_maker_admits_with_an_invite(kit: Kit) -> None:
    zoe, maker = kit.identity("zoe"), kit.identity("maker")
    link = await newcomer(kit, "ada", zoe, Invitation(maker.peer_id, "0a0b0c0d", 1, LONG, bytes(16)))
    await link.ended("maker", after="an invite of another maker")


@rule
async def a_wrong_proof_of_an_invite_admits_nobody(kit: Kit) -> None:
    made = Invitation(kit.candidate, "0a0b0c0d", 1, LONG, kit.draw("secret", 16))
    link = await newcomer(kit, "ada", kit.identity("zoe"), made)
    await link.ended("invite", after="an invite with a wrong proof")


async def invited(kit: Kit, uses: int, seconds: float) -> Invitation:
    """Let the candidate make an invite. Raises RuleSkipped if it makes none."""
    answer = await order(await kit.join("asking"), f"/invite {uses} {seconds:g}")
    try:
        return parse_invite(answer).invitation
    except InviteError:
        raise RuleSkipped("the candidate makes no invites: it is neither the founder nor an admin") from None


@rule
async def an_invite_admits_as_many_as_it_says(kit: Kit) -> None:
    invitation = await invited(kit, 2, 3600.0)
    zoe, yan, dan = (kit.identity(name) for name in ("zoe", "yan", "dan"))
    for name, member in (("first", zoe), ("second", yan), ("first again", zoe)):
        link = await newcomer(kit, name, member, invitation)
        await link.next(wire.Admit, f"`admit` of the {name} newcomer")
    link = await newcomer(kit, "third", dan, invitation)
    await link.ended("used", after="an invite that is used up")


@rule
async def an_invite_ends(kit: Kit) -> None:
    link = await newcomer(kit, "ada", kit.identity("zoe"), await invited(kit, 1, 0.001))
    await link.ended("late", after="an invite that has ended")


# ---- statements


async def guest_of(kit: Kit, guest: str | ScriptedMember, answers: Identity) -> ScriptedLink:
    """Return a connection of a guest of another member than the kit's, which has shown its certificate."""
    link = await kit.dial(kit.member(guest) if isinstance(guest, str) else guest)
    await link.prove_keys()
    certificate = make_guest(kit.network.id, answers.peer_id, answers.sign, link.member.id)
    link.send(wire.Show(wire.Membership(kit.network.founder, certificate)))
    return link


async def linked_guest(kit: Kit, answers: Identity) -> ScriptedLink:
    """Return a link of a guest of another member than the kit's."""
    link = await guest_of(kit, "guest", answers)
    await link.next(wire.Admit)
    await link.go()
    await link.introduce()
    return link


def of(kit: Kit, signer: Identity, kind: str, **fields: Any) -> Statement:
    """Make a statement as somebody else than the founder."""
    return make_statement(kit.network.id, signer.peer_id, signer.sign, kind, now_us(), fields)


async def told(kit: Kit, *said: Statement) -> None:
    """Let the candidate hear these statements, one after the other, until it tells the last: all are stored then."""
    teller, other = await kit.join("teller"), await kit.join("other")
    last = pair(kit.say(CLOSE, invites=[kit.draw("invite", 4).hex()]))
    teller.send(*(wire.Statements(s=[pair(one)]) for one in said), wire.Statements(s=[last]))
    await other.next(
        wire.Statements, "`statements` with a statement that came on another link", where=partial(told_in, last)
    )


async def admits(kit: Kit, name: str, member: Identity) -> None:
    """Check that the candidate admits a guest of this member."""
    link = await guest_of(kit, "guest", member)
    await link.next(wire.Admit, f"`admit` for a guest of {name}")


async def bars(kit: Kit, member: Identity, what: str) -> None:
    """Check that the candidate refuses a guest of this member."""
    link = await guest_of(kit, "guest", member)
    await link.ended("member", after=f"a guest of {what}")


@rule
async def statements_are_told_on(kit: Kit) -> None:
    ada, bob = await kit.join("ada"), await kit.join("bob")
    said = kit.say(ADD, who=[kit.identity("zoe").peer_id])
    ada.send(wire.Statements(s=[pair(said)]))
    await bob.next(wire.Statements, "`statements` with a statement that came on another link",
                   where=lambda one: pair(said) in one.s)  # fmt: skip


@rule
async def who_lacks_statements_gets_them(kit: Kit) -> None:
    ada, bob = await kit.join("ada"), await kit.join("bob")
    said = kit.say(ADD, who=[kit.identity("zoe").peer_id])
    ada.send(wire.Statements(s=[pair(said)]))
    await bob.next(wire.Statements, "`statements` with a statement that came on another link",
                   where=lambda one: pair(said) in one.s)  # fmt: skip
    after = len(bob.frames)
    bob.send(wire.Statements(founder=kit.network.founder, sum="00" * 32, ask=True))
    said_sum = (await bob.next(wire.Statements, "`sum` in `statements`, as it was asked for", after=after,
                           where=lambda one: one.sum is not None)).sum  # fmt: skip
    await bob.next(wire.Statements, "the statement in `statements`, as the sum differs", after=after,
                   where=lambda one: pair(said) in one.s)  # fmt: skip
    await bob.round_trip()
    ids = sent_to(bob, after)
    total = hash_of(SUM_TAG, map(bytes.fromhex, sorted(ids)))
    check(said_sum == total, f"the sum is {said_sum}, and that of the statements that came {total}")


def sent_to(link: ScriptedLink, after: int) -> set[str]:
    """Return the ids of all statements that came behind the first `after` frames."""
    frames = [one for one in link.frames[after:] if isinstance(one, wire.Statements)]
    network = link.kit.network.id
    return {parse_statement(network, text, bytes.fromhex(sig)).id for frame in frames for text, sig in frame.s}


@rule
async def statements_of_a_new_admin_are_asked_for(kit: Kit) -> None:
    ada = await kit.join("ada")
    await ada.round_trip()
    after = len(ada.frames)
    ada.send(wire.Statements(s=[pair(kit.say(ADMIN, who=[kit.identity("admin").peer_id]))]))
    await ada.next(wire.Statements, "`statements` with `sum` and `ask` behind a new admin", after=after,
                   where=lambda one: one.sum is not None and one.ask)  # fmt: skip


@rule
async def statements_begin_a_comparison(kit: Kit) -> None:
    """A sum that is told now and then goes to one of the links in ten seconds."""
    links = [await kit.join(name) for name in ("ada", "bob", "cyd")]
    zoe = kit.identity("zoe")
    user = kit.identity("of zoe")
    log = links[0].member.log(user=user, profile=False, hold=False,
                              by=make_guest(kit.network.id, zoe.peer_id, zoe.sign, user.peer_id))  # fmt: skip
    batch = log.text("nobody has named my member yet")
    for link in links:
        await link.compared()
    for link in links:
        link.send(batch)
        await link.round_trip()
    counts = [len(link.frames) for link in links]
    await told(kit, kit.say(ADD, who=[zoe.peer_id]))
    await asyncio.gather(*(
        link.next(wire.Digest, "`digest` after a statement that names the member of a log that was not taken",
                  after=count, timeout=min(kit.timeout, AT_ONCE))
        for link, count in zip(links, counts, strict=True)
    ))  # fmt: skip


@rule
async def who_is_removed_is_sent_away(kit: Kit) -> None:
    zoe = kit.identity("zoe")
    await told(kit, kit.say(ADD, who=[zoe.peer_id]))
    link = await linked_guest(kit, zoe)
    out = kit.say(REMOVE, who=[zoe.peer_id])
    await told(kit, out)
    await link.ended("member", after="the removal of its member")
    check(any(isinstance(one, wire.Statements) and pair(out) in one.s for one in link.frames),
          "the removal did not come before `bye`")  # fmt: skip
    again = await guest_of(kit, "again", zoe)
    await again.ended("member", after="a certificate of the removed member")


@rule
async def who_named_a_removed_member_is_refused(kit: Kit) -> None:
    zoe, yan = kit.identity("zoe"), kit.identity("yan")
    await told(kit, kit.say(ADD, who=[zoe.peer_id]), kit.say(ADD, who=[yan.peer_id]))
    link = await linked_guest(kit, zoe)
    await told(kit, kit.say(REMOVE, who=[zoe.peer_id]))
    await link.ended("member", after="the removal of its member")
    again = await guest_of(kit, link.member, yan)
    await again.ended("member", after="another certificate of a guest of the removed member")


@rule
async def a_forged_statement_is_not_taken_and_those_beside_it_are(kit: Kit) -> None:
    link, other, zoe, yan = await kit.join("ada"), await kit.join("other"), kit.identity("zoe"), kit.identity("yan")
    founder = kit.network.founder
    forged = make_statement(kit.network.id, founder, zoe.sign, ADD, now_us(), {"who": [zoe.peer_id]})
    good = pair(kit.say(ADD, who=[yan.peer_id]))
    link.send(wire.Statements(s=[pair(forged), good]))
    await other.next(wire.Statements, "`statements` with what stood beside a forged one", where=partial(told_in, good))
    refused = await guest_of(kit, "of zoe", zoe)
    await refused.ended("member", after="a statement that the founder did not sign")


@rule
async def an_admins_removal_counts_with_what_has_no_effect(kit: Kit) -> None:
    admin, zoe, yan = (kit.identity(name) for name in ("admin", "zoe", "yan"))
    await told(kit, kit.say(ADD, who=[zoe.peer_id]), kit.say(ADMIN, who=[admin.peer_id]))
    await admits(kit, "zoe", zoe)
    fields = {"who": [zoe.peer_id], "keep": [yan.peer_id], "hide": False}
    out = make_statement(kit.network.id, admin.peer_id, admin.sign, REMOVE, now_us(), fields)
    await told(kit, out)
    await bars(kit, zoe, "a member that an admin has removed")
    await bars(kit, yan, "a member that an admin's removal keeps")


@rule
async def a_plain_member_admits_nobody(kit: Kit) -> None:
    zoe, yan = kit.identity("zoe"), kit.identity("yan")
    await told(kit, kit.say(ADD, who=[zoe.peer_id]), of(kit, zoe, ADD, who=[yan.peer_id]))
    await admits(kit, "zoe", zoe)
    await bars(kit, yan, "a member that a plain member added")


@rule
async def an_admin_admits(kit: Kit) -> None:
    admin, yan = kit.identity("admin"), kit.identity("yan")
    await told(kit, kit.say(ADMIN, who=[admin.peer_id]), of(kit, admin, ADD, who=[yan.peer_id]))
    await admits(kit, "yan, whom an admin added", yan)


@rule
async def a_pardon_lets_in_again(kit: Kit) -> None:
    zoe = kit.identity("zoe")
    added, out = kit.say(ADD, who=[zoe.peer_id]), kit.say(REMOVE, who=[zoe.peer_id])
    await told(kit, added, out)
    await bars(kit, zoe, "a member that was removed")
    await told(kit, kit.say(ADD, who=[zoe.peer_id]))
    await bars(kit, zoe, "a member that was added again after its removal")
    await told(kit, kit.say(PARDON, ids=[out.id]))
    await admits(kit, "zoe, who was pardoned", zoe)


@rule
async def an_admin_pardons_whom_it_removed_alone(kit: Kit) -> None:
    admin, zoe = kit.identity("admin"), kit.identity("zoe")
    out = kit.say(REMOVE, who=[zoe.peer_id])
    first = kit.say(ADMIN, who=[admin.peer_id]), kit.say(ADD, who=[zoe.peer_id]), out
    await told(kit, *first, of(kit, admin, PARDON, ids=[out.id]))
    await bars(kit, zoe, "a member that the founder removed and an admin pardoned")


@rule
async def a_removed_guest_is_refused(kit: Kit) -> None:
    zoe, guest = kit.identity("zoe"), kit.member("guest")
    await told(kit, kit.say(ADD, who=[zoe.peer_id]), kit.say(REMOVE, who=[guest.id]))
    await (await guest_of(kit, guest, zoe)).ended("member", after="a certificate for a user that was removed")
    await admits(kit, "zoe", zoe)


@rule
async def who_is_kept_stays_when_an_admin_is_removed(kit: Kit) -> None:
    admin, yan = kit.identity("admin"), kit.identity("yan")
    first = kit.say(ADMIN, who=[admin.peer_id]), of(kit, admin, ADD, who=[yan.peer_id])
    await told(kit, *first, kit.say(REMOVE, who=[admin.peer_id], keep=[yan.peer_id]))
    await admits(kit, "yan, whom the removal of an admin keeps", yan)
    await bars(kit, admin, "an admin that was removed")


@rule
async def a_pardon_takes_back_the_removal_alone(kit: Kit) -> None:
    """Whom the removal keeps stays, and whom it made no admin any more stays none."""
    admin, yan, zoe = kit.identity("admin"), kit.identity("yan"), kit.identity("zoe")
    out = kit.say(REMOVE, who=[admin.peer_id], keep=[yan.peer_id])
    added = of(kit, admin, ADD, who=[yan.peer_id]), of(kit, admin, ADD, who=[zoe.peer_id])
    await told(kit, kit.say(ADMIN, who=[admin.peer_id]), *added, out, kit.say(PARDON, ids=[out.id]))
    await admits(kit, "yan, whom a pardoned removal keeps", yan)
    await bars(kit, zoe, "a member that a former admin added, whose removal was pardoned")


@rule
async def an_admin_removes_no_guest_of_another(kit: Kit) -> None:
    admin, other, guest = kit.identity("admin"), kit.identity("other"), kit.member("guest")
    first = kit.say(ADMIN, who=[admin.peer_id, other.peer_id]), of(kit, other, REMOVE, who=[guest.id])
    await told(kit, *first)
    await (await guest_of(kit, guest, admin)).next(wire.Admit, "`admit` for a guest of an admin that another removed")
    await told(kit, of(kit, admin, REMOVE, who=[guest.id]))
    await (await guest_of(kit, guest, admin)).ended("member", after="a guest of an admin, who removed it")


@rule
async def statements_with_other_fields_have_no_effect(kit: Kit) -> None:
    zoe, nine = kit.identity("zoe"), [kit.identity(f"zoe-{n}") for n in range(9)]
    who = [one.peer_id for one in nine]
    ada, bob = await kit.join("ada"), await kit.join("bob")
    for member, what, fields in (
        (zoe, "with a further field", {"who": [zoe.peer_id], "x": 1}), (nine[0], "of nine", {"who": who}),
    ):  # fmt: skip
        said = any_statement(kit, "add", fields)
        ada.send(wire.Statements(s=[said]))
        await bob.next(wire.Statements, f"`statements` with an `add` {what}", where=partial(told_in, said))
        await bars(kit, member, f"a member in an `add` {what}")


@rule
async def of_an_admin_the_smallest_ids_are_kept(kit: Kit) -> None:
    """Removals of 36 KB each: of ten the eight with the smallest ids bring them to 256 KiB."""
    admin, kept = kit.identity("admin"), [kit.identity(f"kept-{n}").peer_id for n in range(512)]
    said = sorted((of(kit, admin, REMOVE, who=[kit.identity(f"zoe-{n}").peer_id], keep=kept) for n in range(10)),
                  key=lambda one: one.id)  # fmt: skip
    await told(kit, kit.say(ADMIN, who=[admin.peer_id]), *said[3:], *said[:3])
    ada = await kit.join("ada")
    await ada.round_trip()
    after = len(ada.frames)
    ada.send(wire.Statements(founder=kit.network.founder, sum="00" * 32, ask=True))
    await ada.next(wire.Statements, "`sum` in `statements`", after=after, where=lambda one: one.sum is not None)
    await ada.round_trip()
    have = sent_to(ada, after)
    size, due = 0, []
    for one in said:
        if size < 256 * 1024:
            due.append(one.id)
        size += len(one.text) + 64
    got = [one.id for one in said if one.id in have]
    check(got == due, f"of ten removals of {size // 10} bytes the {len(due)} smallest ids are kept, and not {len(got)}")


@rule
async def a_log_of_whom_a_former_admin_named_is_not_taken(kit: Kit) -> None:
    admin, yan, user = kit.identity("admin"), kit.identity("yan"), kit.identity("of yan")
    first = kit.say(ADMIN, who=[admin.peer_id]), of(kit, admin, ADD, who=[yan.peer_id])
    await told(kit, *first)
    await told(kit, kit.say(REMOVE, who=[admin.peer_id]))
    link = await kit.join("ada")
    by = make_guest(kit.network.id, yan.peer_id, yan.sign, user.peer_id)
    log = link.member.log(user=user, profile=False, by=by)
    link.send(log.text("yan was a member once"))
    marks = await link.marks_in(kit.room)
    check(user.peer_id not in marks, "a log was taken whose member only a former admin had added")
    await bars(kit, yan, "a member that a former admin added")


@rule
async def an_admin_removes_no_admin(kit: Kit) -> None:
    admin, zoe = kit.identity("admin"), kit.identity("zoe")
    await told(kit, kit.say(ADMIN, who=[admin.peer_id, zoe.peer_id]), of(kit, admin, REMOVE, who=[zoe.peer_id]))
    await admits(kit, "zoe, an admin that another one removed", zoe)


@rule
async def who_was_removed_stays_out_after_a_restart(kit: Kit) -> None:
    if kit.restart is None:
        raise RuleSkipped("the candidate cannot be restarted")
    zoe = kit.identity("zoe")
    out = kit.say(REMOVE, who=[zoe.peer_id])
    await told(kit, kit.say(ADD, who=[zoe.peer_id]), out)
    kit.said.remove(out)  # nobody tells it again
    await kit.restarted()
    await bars(kit, zoe, "a member that was removed before a restart")


def any_statement(kit: Kit, kind: str, fields: dict[str, Any]) -> tuple[str, str]:
    """Return a statement of the founder with any fields."""
    said = {"by": kit.founder.peer_id, "k": kind, "at": now_us(), **fields}
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return text, kit.founder.sign(SIGNATURE_TAG + bytes.fromhex(kit.network.id) + text.encode()).hex()


# Values in statements of a kind that is not known, of the form of RFC 8785 and of others.
CANONICAL = r'"\u0000\b\t\n\u000b\f\r\u001f\"\\/' + '\x7f"'
OF_OTHER_FORM = (
    r'"\u007f"', r'"\u000a"', r'"\u001F"', r'"\/"', r'"\ud800"', "-0", "1e+21", "[" * 16 + "]" * 16,
    f'"{"x" * 49_152}"',
)  # fmt: skip


def unknown(kit: Kit, value: str) -> tuple[str, str]:
    """Return a statement of the founder of a kind that is not known, with a value as JSON."""
    text = f'{{"at":{now_us()},"by":"{kit.founder.peer_id}","k":"later","x":{value}}}'
    return text, kit.founder.sign(SIGNATURE_TAG + bytes.fromhex(kit.network.id) + text.encode()).hex()


@rule
async def canonical_statements_are_kept(kit: Kit) -> None:
    ada, bob, said = await kit.join("ada"), await kit.join("bob"), unknown(kit, CANONICAL)
    ada.send(wire.Statements(s=[said]))
    await bob.next(wire.Statements, "`statements` with the statement", where=lambda one: said in one.s)


@rule
async def statements_of_another_form_are_not_taken(kit: Kit) -> None:
    link, other = await kit.join("ada"), await kit.join("other")
    for value in OF_OTHER_FORM:
        false, good = unknown(kit, value), pair(kit.say(CLOSE, invites=[kit.draw("invite", 4).hex()]))
        link.send(wire.Statements(s=[false, good]))
        await other.next(
            wire.Statements, "`statements` with what stood beside a false one", where=partial(told_in, good)
        )
        is_told = any(told_in(false, frame) for frame in other.frames if isinstance(frame, wire.Statements))
        check(not is_told, f"a statement with {value[:20]} was taken")
