"""What a thief does who has a person's machine with the keys on it, alone or with an accomplice among the members."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from p2pchat import MemberChange, TCPPeer, join_device, profile_directory
from p2pchat.core.names import base32
from p2pchat.identity.identity import Identity, load_identity
from p2pchat.identity.network import FILE_NAME, GUEST_NAME, Network, save_certificates, save_network
from p2pchat.identity.profile import KEY_NAME, USER_KEY_NAME, network_of
from p2pchat.private_files import write_private
from p2pchat.protocol import PeerId, UserId
from tests.deadlines import WAIT, until, within
from tests.messaging.conftest import home as home
from tests.messaging.texts import texts
from tests.ports import free_ports
from tests.test_devices import Adding, Login, has
from tests.test_devices import login as login


@dataclass
class Theft:
    """A network that fay founded; ada, a member, and her laptop, which is stolen; and other members."""

    login: Login
    ports: dict[str, int]

    def profile(self, name: str) -> Path:
        self.login(name)
        return profile_directory(self.ports[name])

    @property
    def laptop(self) -> PeerId:
        """The key of the stolen machine."""
        return load_identity(self.profile("laptop") / KEY_NAME).peer_id

    @property
    def ada(self) -> UserId:
        """The key of the person, which the thief has too."""
        return load_identity(self.profile("laptop") / USER_KEY_NAME).peer_id

    def start(self, name: str, *others: TCPPeer) -> TCPPeer:
        """Return a peer that dials others."""
        self.login(name)
        return TCPPeer(self.ports[name], *(one.endpoint for one in others))

    def certify(self, answering: dict[str, str]) -> None:
        """Have members answer for keys of the laptop: by the key, whose profile."""
        path, lines = self.profile("laptop") / GUEST_NAME, list[str]()
        networks = {key: network_of(self.profile(name)) for key, name in answering.items()}
        for key, network in networks.items():
            save_certificates(path, network, [key])
            lines += path.read_text().splitlines()
        write_private(path, "\n".join(lines).encode())


async def steal(login: Login, *others: str) -> Theft:
    """Return a theft before which everybody wrote a line. Nobody runs any more."""
    names = ("ada", *others)
    theft = Theft(login, dict(zip(("fay", "laptop", *names), map(int, free_ports(len(names) + 2)), strict=True)))
    async with AsyncExitStack() as stack:
        login("fay")
        fay = await stack.enter_async_context(TCPPeer(theft.ports["fay"], name="fay"))
        invite = await fay.make_invite(uses=len(names))
        for number, name in enumerate(names, 1):
            login(name)
            peer = await stack.enter_async_context(TCPPeer(theft.ports[name], name=name, invite=invite))
            await peer.wait_user("fay", timeout=WAIT)
            await peer.broadcast(name)
            await has(fay, "room", *names[:number])
    login("ada")
    adding = Adding(theft.ports["ada"])
    code = await adding.code()
    login("laptop")
    await join_device(code, theft.ports["laptop"], on_words=lambda words: None)
    await adding.task
    return theft


async def linked(*peers: TCPPeer) -> None:
    await until(lambda: all(len(one.links()) == len(peers) - 1 for one in peers), "all links")


async def test_what_an_accomplice_revoked_is_revoked_by_the_person_too(login: Login) -> None:
    """Bob answers for the key of ada in one log, and revokes it. He could push that out of what others keep of him."""
    theft = await steal(login, "bob")
    lost, me = theft.laptop, theft.ada
    theft.certify({lost: "laptop", me: "bob"})
    async with theft.start("fay") as fay, theft.start("bob", fay) as bob, theft.start("ada", fay, bob) as desk:
        async with theft.start("laptop", fay, bob, desk) as thief:
            await linked(fay, bob, desk, thief)
            await thief.broadcast("by the key of ada")
            for one in (desk, bob):
                await has(one, "room", "ada", "bob", "by the key of ada")
            await bob.people._say([("revoke", {"who": [me]})])
            await until(lambda: bool(desk.people._answers.revocations(me)), "what bob revoked")
            await desk.people.revoke_device(base32(lost))
        own = desk.people._node.admission.member
        await until(lambda: own in [one.by for one in fay.people._answers.revocations(me)], "what ada revoked")


async def test_a_machine_for_which_an_accomplice_answers_is_shut_out_by_its_id(login: Login) -> None:
    """Its record names bob, so it is none of ada's by all that the desk knows."""
    theft = await steal(login, "bob")
    lost, me = theft.laptop, theft.ada
    theft.certify({lost: "bob", me: "bob"})
    async with theft.start("fay") as fay, theft.start("bob", fay) as bob, theft.start("ada", fay, bob) as desk:
        async with theft.start("laptop", fay, bob, desk) as thief:
            await linked(fay, bob, desk, thief)
        assert (await desk.people.revoke_device(base32(lost))).peer_id == base32(lost)
        await until(lambda: len(fay.links()) == 2, "the end of its link")


async def test_no_other_member_is_the_host_of_a_person_who_shut_out_a_machine(login: Login) -> None:
    """Bob answers for a new key of the laptop, which hosts ada by her old certificate and has no link with her desk: it
    gets nothing that is for her.
    """
    theft = await steal(login, "bob", "cyd")
    lost, me, another = theft.laptop, theft.ada, Identity.generate()
    async with theft.start("fay") as fay, theft.start("cyd", fay) as cyd, theft.start("ada", fay, cyd) as desk:
        await desk.people.revoke_device(base32(lost))
        await until(lambda: bool(cyd.people._answers.revocations(me)), "what cyd knows")
        write_private(theft.profile("laptop") / KEY_NAME, another.to_pem())
        theft.certify({another.peer_id: "bob", me: "laptop"})
        await desk.block(base32(another.peer_id))
        async with theft.start("laptop", cyd) as thief:
            assert thief.listening.peer_id == base32(another.peer_id) and thief.me.key == me
            await has(thief, "room", "ada", "bob", "cyd")
            await (await cyd.send("ada", "a secret")).delivered(timeout=WAIT)
            await cyd.broadcast("to all")
            await has(thief, "room", "ada", "bob", "cyd", "to all")
            assert await texts(thief, "cyd") == []
            assert [host.id for host in (await cyd.whois("ada")).hosts] == [desk.listening.peer_id]


async def test_who_answers_for_a_person_is_told_again_once_a_machine_was_shut_out(login: Login) -> None:
    """Bob had it told before anybody missed the laptop."""
    theft = await steal(login, "bob")
    lost, me, another = theft.laptop, theft.ada, Identity.generate()
    async with theft.start("fay") as fay, theft.start("ada", fay) as desk:
        events = desk.events(MemberChange, consumer=None)
        for key in (lost, another.peer_id):
            theft.certify({key: "bob", me: "bob"})
            async with theft.start("laptop", fay, desk) as thief:
                await linked(fay, desk, thief)
                await thief.broadcast("by the key of ada")
                async with within(WAIT, "what ada reads"):
                    while (told := await anext(events)).change != "shared":
                        continue
                assert told.user == desk.me
            if key == lost:
                await desk.people.revoke_device(base32(lost))
                write_private(theft.profile("laptop") / KEY_NAME, another.to_pem())


async def test_who_names_the_founder_and_somebody_expelled_is_expelled_by_name(login: Login, home: Path) -> None:
    """A profile of the founder's login that went on under bob is not out with bob, and was nobody's to expel."""
    fay_port, bob_port = map(int, free_ports(2))
    login("fay")
    async with TCPPeer(fay_port, name="fay") as fay:
        async with TCPPeer(0, fay.endpoint, data=home / "kid", name="kid") as kid:
            await kid.broadcast("at home")
            await has(fay, "room", "at home")
            key = kid.me.key
        invite, founded = await fay.make_invite(), network_of(home / "kid")
        login("bob")
        async with TCPPeer(bob_port, name="bob", invite=invite) as bob:
            await bob.wait_user("fay", timeout=WAIT)
            save_certificates(home / "kid" / GUEST_NAME, network_of(profile_directory(bob_port)), [key])
            save_network(home / "kid" / FILE_NAME, Network(founded.id, founded.key, founded.founder, ""))
            async with TCPPeer(0, fay.endpoint, data=home / "kid") as kid:
                await kid.broadcast("with bob")
                await has(fay, "room", "at home", "with bob")
            await fay.people.expel("bob")
        assert not fay.user("kid").expelled
        with pytest.raises(ValueError, match="--only expels kid alone"):
            await fay.people.expel("kid")
        await fay.people.expel("kid", only=True)
        assert fay.user("kid").expelled
        await fay.people.expel(fay.directory.user("ab" * 32), only=True)  # nobody is known to answer for it
        assert fay.directory.user("ab" * 32).expelled
