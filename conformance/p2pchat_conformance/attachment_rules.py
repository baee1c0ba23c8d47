"""Rules about attachments: entries with them are like others; their content is announced, given, fetched and judged.

A peer may leave attachments out: then its `peers` has no `files` in `can`, and all rules but the first are skipped. The
commands of docs/conformance.md attach and fetch. Content is a name, repeated, so that both know it without sending it.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pchat import protocol as wire
from p2pchat.core.content.pieces import PIECE_BYTES, leaf_of, root_of
from p2pchat_conformance.awaited_frames import RuleSkipped, ScriptedLink, check
from p2pchat_conformance.group_rules import DONE, ordered
from p2pchat_conformance.runner import Kit, rule
from p2pchat_conformance.scripted_member import pieces_of

SIZE = 2 * PIECE_BYTES + 1000  # three pieces, the last one shorter
MAX_PULLS = 128  # open at a time
GOOD = {"name": "a.txt", "size": 5, "type": "text/plain", "root": "ab" * 32}
FORMS: tuple[object, ...] = ([GOOD], [], "a.txt", {"0": GOOD}, [1], [{**GOOD, "size": "5"}], [{"name": "a.txt"}],
                             [GOOD] * 11, [GOOD, {**GOOD, "size": 6}], [{**GOOD, "later": [None]}])  # fmt: skip


@dataclass(frozen=True, slots=True)
class SampleContent:
    """Content of `size` bytes that both sides know by its name."""

    name: str
    size: int

    @property
    def data(self) -> bytes:
        name = self.name.encode()
        return (name * (self.size // len(name) + 1))[: self.size]

    @property
    def leaves(self) -> bytes:
        return b"".join(map(leaf_of, pieces_of(self.data)))

    @property
    def root(self) -> str:
        return root_of(self.size, self.leaves)

    @property
    def item(self) -> dict[str, object]:
        """The object in the key `files`."""
        return {"name": self.name, "size": self.size, "type": "text/plain", "root": self.root}


def drawn(kit: Kit, size: int) -> SampleContent:
    return SampleContent(f"{kit.draw('file', 4).hex()}.txt", size)


async def join_with_files(kit: Kit, name: str) -> ScriptedLink:
    """Return a link of a new member that gives and takes content.

    Raises RuleSkipped if the candidate does not give and take content.
    """
    member = kit.member(name, decides=False)
    member.can = (wire.FILES,)
    link = await kit.link(member)
    peers = await link.next(wire.Peers)
    if wire.FILES not in peers.can:
        raise RuleSkipped("the candidate leaves attachments out: `can` in its `peers` has no `files`")
    return link


async def pulled(link: ScriptedLink, named_by: tuple[str, str, str, int], root: str, first: int, count: int) -> bytes:
    """Pull pieces, or with count 0 the list of leaves, of content that an entry names; return them joined."""
    link.pulls += 1
    number, after = link.pulls, len(link.frames)
    link.send(wire.Pull(number, *named_by, root, first, count))
    wanted = range(first, first + (count or 1))  # a list of three leaves is one part

    def closed() -> bool:
        found = [one for one in link.frames[after:] if isinstance(one, wire.Piece | wire.Lacks) and one.n == number]
        return len(found) >= len(wanted) or any(isinstance(one, wire.Lacks) for one in found)

    await link.until(closed, f"end of the pull of {count or 'the list of leaves'} from {first} on")
    came = [one for one in link.frames[after:] if isinstance(one, wire.Piece | wire.Lacks) and one.n == number]
    pieces = [one for one in came if isinstance(one, wire.Piece)]
    check(len(pieces) == len(came), "`lacks` answered the pull of what is there")
    check([one.index for one in pieces] == [*wanted], f"the pieces came as {[one.index for one in pieces]}")
    return b"".join(one.data for one in pieces)


async def lacked(link: ScriptedLink, named_by: tuple[str, str, str, int], root: str) -> None:
    """Pull content, and check that it is answered with `lacks` alone."""
    link.pulls += 1
    number = link.pulls
    link.send(wire.Pull(number, *named_by, root, 0, 1))
    answer = await link.next(wire.Lacks, "`lacks`", where=lambda one: one.n == number)
    check(not answer.has, f"`has` in `lacks` is {answer.has}")
    check(not any(isinstance(one, wire.Piece) and one.n == number for one in link.frames), "a piece came as well")


async def attached(kit: Kit, link: ScriptedLink, content: SampleContent) -> tuple[str, str, str, int]:
    """Let the candidate send content to the member of a link; return what names the entry."""
    await ordered(link, f"/attach {content.name} {content.size}")
    there = link.member.dm()

    def named() -> list[dict[str, object]]:
        found = [one for one in link.entries_of(kit.candidate, there) if "files" in one]
        return [one for one in found if content.name in str(one["files"])]

    await link.until(named, "text of the candidate with the key `files`")
    entry = named()[0]
    item = {**content.item, "type": entry["files"][0].get("type")}  # type: ignore[index]
    check(entry["files"] == [item] and isinstance(item["type"], str), f"`files` is {entry['files']}, not {[item]}")
    return there, kit.candidate, str(entry["run"]), int(str(entry["seq"]))


# ---- of every candidate


@rule
async def attachments_leave_an_entry_valid(kit: Kit) -> None:
    link = await kit.join("ada")
    for place, files in enumerate(FORMS):
        await link.echoed(f"with files {place}", link.member.dm(), files=files)


# ---- of those that give and take content


@rule
async def pieces_that_were_not_asked_for_end_the_link(kit: Kit) -> None:
    link = await join_with_files(kit, "ada")
    link.send(wire.Piece(7, 0, b"unasked"))
    await link.ended("order", after="a piece that nobody had asked for")


@rule
async def content_that_no_entry_names_is_lacked(kit: Kit) -> None:
    link = await join_with_files(kit, "ada")
    log, _ = await link.echoed("nothing attached", link.member.dm())
    await lacked(link, (*log.id, 1), "ab" * 32)
    await lacked(link, (*log.id, 99), "ab" * 32)


@rule
async def content_is_announced_with_its_root(kit: Kit) -> None:
    link = await join_with_files(kit, "ada")
    for size in (0, 1, SIZE):
        await attached(kit, link, drawn(kit, size))


@rule
async def a_pull_is_answered_with_pieces(kit: Kit) -> None:
    link = await join_with_files(kit, "ada")
    content = drawn(kit, SIZE)
    entry = await attached(kit, link, content)
    leaves = await pulled(link, entry, content.root, 0, 0)
    check(leaves == content.leaves, "the list of leaves is not that of the content")
    came = await pulled(link, entry, content.root, 1, 2) + await pulled(link, entry, content.root, 0, 1)
    check(came == content.data[PIECE_BYTES:] + content.data[:PIECE_BYTES], "the pieces are not those of the content")


@rule
async def no_more_pulls_are_open_than_may_be(kit: Kit) -> None:
    link = await join_with_files(kit, "ada")
    link.member.answers.discard("pull")
    contents = [drawn(kit, 1000) for _ in range(MAX_PULLS + 14)]
    link.member.contents.update({content.root: content.data for content in contents})
    said = []
    for first in range(0, len(contents), 10):
        items = [content.item for content in contents[first : first + 10]]
        log, batch = link.member.say(link.member.dm(), "/fetch", files=items)
        said.append((log.id.conversation, log.ref()))
        link.send(batch)
    await answer_one_by_one(link, len(contents))
    for conversation, ref in said:
        await link.answer(conversation, DONE, ref)


async def answer_one_by_one(link: ScriptedLink, count: int) -> None:
    """Answer so many pulls, each after a round trip, of which at most MAX_PULLS may be open at a time."""

    def asked() -> list[wire.Pull]:
        return [frame for frame in link.frames if isinstance(frame, wire.Pull)]

    for given in range(count):
        await link.until(lambda: len(asked()) > given, "`pull` of the rest of the files")  # noqa: B023 - it ends with this turn
        await link.round_trip()
        is_open = len(asked()) - given
        check(is_open <= MAX_PULLS, f"{is_open} pulls are open, and at most {MAX_PULLS} may be")
        link.member.give(link, asked()[given])


@rule
async def as_many_pulls_are_answered_as_may_be_open(kit: Kit) -> None:
    link = await join_with_files(kit, "ada")
    content = drawn(kit, 1000)
    entry = await attached(kit, link, content)
    numbers = range(1, MAX_PULLS + 1)
    link.send(*(wire.Pull(number, *entry, content.root, 0, 1) for number in numbers))

    def came() -> list[wire.Piece]:
        return [frame for frame in link.frames if isinstance(frame, wire.Piece)]

    await link.until(lambda: len(came()) == MAX_PULLS, f"{MAX_PULLS} pieces, one for each of as many pulls")
    check({piece.n for piece in came()} == {*numbers}, "some pull has two answers")
    check({piece.data for piece in came()} == {content.data}, "a piece is not that of the content")


@rule
async def a_pull_of_too_many_pieces_ends_the_link(kit: Kit) -> None:
    link = await join_with_files(kit, "ada")
    content = drawn(kit, SIZE)
    entry = await attached(kit, link, content)
    link.send(wire.Pull(1, *entry, content.root, 0, 65))
    await link.ended("limit", after="a pull of 65 pieces")


@rule
async def content_of_others_is_lacked(kit: Kit) -> None:
    ada, bob = await join_with_files(kit, "ada"), await join_with_files(kit, "bob")
    content = drawn(kit, 1000)
    entry = await attached(kit, ada, content)
    await lacked(bob, entry, content.root)
    check(await pulled(ada, entry, content.root, 0, 1) == content.data, "the member who may have it got something else")


@rule
async def content_that_was_fetched_is_given_on(kit: Kit) -> None:
    link = await join_with_files(kit, "ada")
    for size in (1000, SIZE):
        content = drawn(kit, size)
        link.member.contents[content.root] = content.data
        log, batch = link.member.say(link.member.dm(), "/fetch", files=[content.item])
        link.send(batch)
        await link.answer(log.id.conversation, DONE, log.ref())
        entry = (*log.id, len(log.raws))
        for index, piece in enumerate(pieces_of(content.data)):
            check(await pulled(link, entry, content.root, index, 1) == piece, f"piece {index} came back as another one")


@rule
async def false_content_ends_the_link(kit: Kit) -> None:
    for size, has_true_list in ((1000, False), (SIZE, False), (SIZE, True)):
        link = await join_with_files(kit, "ada")
        content = drawn(kit, size)
        link.member.contents[content.root] = bytes(size)
        if has_true_list:
            link.member.lists[content.root] = content.leaves
        link.send(link.member.say(link.member.dm(), "/fetch", files=[content.item])[1])
        await link.ended("content", after="pieces of other content")
