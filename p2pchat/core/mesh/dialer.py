"""When which endpoint is dialled: for ever, with growing pauses, and hardly ever two dials to one peer at once.

A Target is one endpoint to try, a Course all targets of one peer (of a typed endpoint that nobody has answered yet:
that one alone). A course dials the target that is due first, and only while no link to its peer is up and no dial of
its own is under way; a dial is under way until its link is up or has failed, and is never cancelled because another
link came in (link.py needs that). Pauses are drawn evenly from [0, 0.1 s), doubling to 30 s, to 300 s for an
address that never answered ("full jitter"); contact from the peer itself begins them anew. In a crowd of stale
addresses they are longer, or thousands of them would be dialled all the time. One dial more is made when
a peer is seen on the local network while the only one under way hangs, mostly at the address it had yesterday.

Of two who are told of each other the smaller id dials at once, the other a second later; while a mesh forms, as long
as links come up, for the other is busy with it then, but 8 s at most, or a quarter of a second for each peer known.
Addresses told by others are dialled few at once, and slowly once many of one teller's came to nothing: a peer that
tells nonsense, or wants someone flooded, gets little for it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from p2pchat.core.context import Context, KeySet, Timer
from p2pchat.core.effects import Dial, LinkChanged
from p2pchat.core.mesh.addressbook import AddressBook, split_endpoint
from p2pchat.core.mesh.link import REFUSALS, is_decider
from p2pchat.core.records import Address
from p2pchat.protocol import PeerId

STABLE_AFTER = 5.0  # seconds a link must have been up for the pauses to begin anew; a guess, after LESSONS of others
SPREAD_OVER = 8  # peers dialled at a start within one first pause; more take proportionally longer
CROWD = 256  # peers to dial, as many as links there may be; of more each waits longer
MOST_TOLD_WAITS = 8  # that the other gets to dial us first, while a mesh forms: it may not be able to at all
TOLD_WAITS_FOR = 32  # peers known; of more it gets proportionally more, for it has as many to dial
_SLACK = 0.001  # seconds: deadlines are sums of floats
_MOST_DOUBLINGS = 30
NEVER = float("-inf")
UP = ("up", "")  # what people were told of a target, when its peer is linked


@dataclass(slots=True, eq=False)
class DialAddress:
    """One endpoint to try.

    Attributes:
        pin: The key that must answer there; "" takes whoever does.
        typed: A user named it in this run: it is never given up.
        reached: That peer's key answered there once.
        teller: Who told it; "" when a user did, or once it is reached.
        tries: Failures since the pauses last began anew.
        due_at: When it may be dialled, monotonic seconds.
        told: What people were last told of it: (state, reason), ("", "") for nothing.
        forgotten: Nobody wants it any more, but a dial to it is under way.
    """

    endpoint: str
    pin: PeerId = ""
    typed: bool = False
    reached: bool = False
    teller: PeerId = ""
    tries: int = 0
    due_at: float = 0.0
    left_since: float = NEVER  # when the other was first left to dial us; NEVER: it was not
    has_slot: bool = False  # its turn among the targets of a teller of nonsense
    told: tuple[str, str] = ("", "")
    forgotten: bool = False


@dataclass(slots=True, eq=False)
class DialPlan:
    """All targets of one peer; `peer` is "" while nobody has answered at the only one."""

    peer: PeerId
    targets: dict[str, DialAddress] = field(default_factory=dict)
    dials: KeySet[int] = field(default_factory=dict)  # under way
    timer: Timer | None = None
    not_before: float = 0.0
    was_up: bool = False  # a link to this peer was up in this run
    queued: bool = False  # waits for one of the few dials to told addresses


class Dialer:
    """Decides every dial of a node.

    Args:
        is_up: Whether a link to that peer is up.
        has_room: Whether one more link may come up; without it only what users typed is dialled.
    """

    def __init__(
        self, ctx: Context, book: AddressBook, is_up: Callable[[PeerId], bool], has_room: Callable[[], bool]
    ) -> None:
        self._ctx = ctx
        self._book = book
        self._is_up = is_up
        self._has_room = has_room
        self._courses: dict[PeerId, DialPlan] = {}
        self._loose: dict[str, DialPlan] = {}  # by endpoint: typed, and nobody has answered there yet
        self._dials: dict[int, tuple[DialPlan, DialAddress]] = {}
        self._last_dial = 0
        self._told_dials: set[int] = set()  # under way to addresses told and never reached
        self._queue: deque[DialPlan] = deque()
        self._failures: Counter[PeerId] = Counter()  # of addresses they told
        self._next_slot: dict[PeerId, float] = {}
        self._came_up_at = NEVER  # when a link last did, to whomever
        self._stopped = False

    # ---- what is to be reached

    def start(self) -> None:
        """Dial every peer of the address book, not all in the same moment."""
        for peer, wait in self._first_waits():
            due_at = self._ctx.now.mono + wait
            for address in self._book.addresses(peer):
                self._target(self._course(peer), address).due_at = due_at
            self._arm(self._course(peer))

    def _first_waits(self) -> Iterator[tuple[PeerId, float]]:
        """Yield when each peer is dialled first: by chance, but of a crowd those before who answered last."""
        first, known = self._ctx.settings.redial_first, list(self._book)
        if len(known) <= CROWD:
            spread = first * max(1.0, len(known) / SPREAD_OVER)
            yield from ((peer, self._ctx.random() * spread) for peer in known)
            return
        for place, peer in enumerate(sorted(known, key=self._book.worth, reverse=True)):
            yield peer, (place / SPREAD_OVER + self._ctx.random()) * first

    def connect(self, endpoint: str, pin: PeerId) -> None:
        """A user named an endpoint: dial it now, and for ever."""
        try:
            split_endpoint(endpoint)
        except ValueError as error:
            self._ctx.emit(LinkChanged(pin, endpoint, "refused", str(error), "endpoint"))
            return
        if pin == self._ctx.me:
            self._ctx.emit(LinkChanged(pin, endpoint, "refused", REFUSALS["self"], "self"))
            return
        course, target = self._typed(endpoint, pin)
        target.typed, target.pin = True, pin
        target.tries, target.due_at, target.left_since, target.told = 0, self._ctx.now.mono, NEVER, ("", "")
        if course.peer and self._is_up(course.peer):
            self._ctx.emit(LinkChanged(course.peer, endpoint, "up"))
        self._arm(course)

    def _typed(self, endpoint: str, pin: PeerId) -> tuple[DialPlan, DialAddress]:
        peer = pin or self._book.owner(endpoint)
        if not peer or peer == self._ctx.me:
            course = self._loose.setdefault(endpoint, DialPlan(""))
            return course, course.targets.setdefault(endpoint, DialAddress(endpoint))
        self._book.add(peer, endpoint)
        address = self._book.get(peer, endpoint)
        assert address is not None
        return self._course(peer), self._target(self._course(peer), address)

    def learned(self, address: Address) -> None:
        """An address is new in the book: dial it if there is no link to that peer.

        That peer mostly hears of us in the same moment. The smaller id dials at once and the other lets it, or a
        third of all handshakes of a mesh that forms would be for links that are replaced right away.
        """
        settings = self._ctx.settings
        course = self._course(address.peer)
        wait = self._pause(0, settings.redial_first)
        target = self._target(course, address)
        if not is_decider(self._ctx.me, address.peer):
            wait += settings.told_dial_after
            target.left_since = self._ctx.now.mono
        target.due_at = self._ctx.now.mono + wait
        self._arm(course)

    def _leave_to_other(self, target: DialAddress) -> None:
        """Let the other dial first for longer, as long as links come up: a mesh forms, and it is busy with others."""
        once = self._ctx.settings.told_dial_after
        most = once * MOST_TOLD_WAITS * max(1.0, len(self._courses) / TOLD_WAITS_FOR)
        target.due_at = max(target.due_at, min(self._came_up_at + once, target.left_since + most))

    def seen(self, address: Address) -> None:
        """An address was announced just now: as learned, but it does not wait long for a dial elsewhere to end."""
        self.learned(address)
        course, endpoint = self._course(address.peer), address.endpoint
        wait = self._ctx.settings.told_dial_after + self._pause(0, self._ctx.settings.redial_first)
        self._ctx.after(wait, lambda: self._dial_beside(course, endpoint))

    def _dial_beside(self, course: DialPlan, endpoint: str) -> None:
        target = course.targets.get(endpoint)
        if target is None or self._stopped or self._is_up(course.peer) or course.not_before > self._ctx.now.mono:
            return
        if len(course.dials) == 1 and all(self._dials[dial][1] is not target for dial in course.dials):
            self._try(course, target)

    def endpoints(self, peer: PeerId) -> list[str]:
        """Return the endpoints known of a peer."""
        course = self._courses.get(peer)
        known = [address.endpoint for address in self._book.addresses(peer)]
        return list(dict.fromkeys([*known, *(course.targets if course is not None else ())]))

    def knows(self, endpoint: str) -> bool:
        """Whether this endpoint is some peer's, or was typed and nobody has answered yet."""
        return endpoint in self._loose or any(endpoint in self.endpoints(peer) for peer in self._peers())

    def _peers(self) -> set[PeerId]:
        return {*self._courses, *self._book}

    @property
    def seeking(self) -> list[str]:
        """The endpoints that users named and where nobody has answered yet."""
        return list(self._loose)

    def forget(self, peer: PeerId) -> None:
        """Drop all that is known of how to reach a peer; a link to it stays, and is not dialled again when it ends."""
        for endpoint in self.endpoints(peer):
            self._forget(peer, endpoint)

    def forget_endpoint(self, endpoint: str, peer: PeerId = "") -> None:
        """Drop one endpoint: of this peer, or of everyone, and as one a user named."""
        for one in [peer] if peer else self._peers():
            self._forget(one, endpoint)
        course = None if peer else self._loose.pop(endpoint, None)
        if course is not None:
            self._give_up(course, endpoint)

    def _forget(self, peer: PeerId, endpoint: str) -> None:
        self._book.forget(peer, endpoint)
        course = self._courses.get(peer)
        if course is not None:
            self._give_up(course, endpoint)

    def _give_up(self, course: DialPlan, endpoint: str) -> None:
        target = course.targets.pop(endpoint, None)
        if target is not None:
            target.forgotten = True
            self._arm(course)

    def stop(self) -> None:
        """Dial nothing more."""
        self._stopped = True
        for course in (*self._courses.values(), *self._loose.values()):
            self._disarm(course)

    # ---- what became of a dial

    def target_of(self, dial: int) -> DialAddress | None:
        """Return what was dialled, None when that does not matter any more."""
        if self._stopped or dial not in self._dials:
            return None
        target = self._dials[dial][1]
        if target.forgotten:
            self.ended(dial)
            return None
        return target

    def proved(self, dial: int, peer: PeerId) -> None:
        """This peer's key answered there, and it is a member."""
        course, target = self._dials[dial]
        if target.forgotten:
            return  # in the last moment: there is a link now, and nothing to remember
        if course.peer != peer:
            course = self._rebind(dial, course, target, peer)
        self._failures.pop(target.teller, None)
        target.reached, target.teller = True, ""
        self._told_dials.discard(dial)
        self._book.verified(peer, target.endpoint)

    def _rebind(self, dial: int, former: DialPlan, target: DialAddress, peer: PeerId) -> DialPlan:
        """Someone else than last time, or the first to answer at a typed endpoint."""
        former.targets.pop(target.endpoint, None)
        former.dials.pop(dial, None)
        if former.peer:
            self._book.forget(former.peer, target.endpoint)
            self._arm(former)
        else:
            self._loose.pop(target.endpoint, None)
        course = self._course(peer)
        course.targets[target.endpoint] = target
        course.dials[dial] = None
        self._dials[dial] = (course, target)
        return course

    def ended(self, dial: int) -> None:
        """The dial is over, and nothing is wrong with the address: its link came up, or another one did.

        Who named the address hears that it was reached, also when people know of a link to that peer already.
        """
        found = self._finish(dial)
        if found is None:
            return
        course, target = found
        if course.peer and self._is_up(course.peer) and target.typed and target.told != UP:
            target.told = UP
            self._ctx.emit(LinkChanged(course.peer, target.endpoint, "up"))
        self._arm(course)

    def failed(self, dial: int, state: str, reason: str, code: str) -> None:
        """The dial came to nothing; `state` is trying or refused, `reason` for people, `code` for programs."""
        found = self._finish(dial)
        if found is None or self._stopped:
            return
        course, target = found
        if target.forgotten:
            self._arm(course)
            return
        if target.teller:
            self._failures[target.teller] += 1
        self._tell(course, target, state, reason, code)
        target.due_at = self._ctx.now.mono + self._pause_after(course, target)
        target.tries += 1
        if course.peer:
            self._book.failed(course.peer, target.endpoint)
            if not target.typed and self._book.get(course.peer, target.endpoint) is None:
                course.targets.pop(target.endpoint, None)
        self._arm(course)

    def is_self(self, dial: int) -> None:
        """That endpoint is this peer's own: never again."""
        found = self._finish(dial)
        if found is None:
            return
        course, target = found
        self._tell(course, target, "refused", REFUSALS["self"], "self")
        course.targets.pop(target.endpoint, None)
        if course.peer:
            self._book.forget(course.peer, target.endpoint)
        else:
            self._loose.pop(target.endpoint, None)
        self._arm(course)

    def _finish(self, dial: int) -> tuple[DialPlan, DialAddress] | None:
        found = self._dials.pop(dial, None)
        if found is None:
            return None
        found[0].dials.pop(dial, None)
        self._told_dials.discard(dial)
        self._let_next()
        return found

    def _tell(self, course: DialPlan, target: DialAddress, state: str, reason: str, code: str) -> None:
        """Once per change, and nothing of addresses that only others vouch for."""
        said = (state, reason if state == "refused" else "")
        if target.told == said or (target.teller and not target.typed):
            return
        target.told = said
        self._ctx.emit(LinkChanged(course.peer, target.endpoint, state, reason, code))

    # ---- what became of a link

    def up(self, peer: PeerId, *, contacted: bool, told: str) -> None:
        """A link to this peer is up; `contacted`: the peer dialled us, so it is there.

        `told` is the endpoint people hear of with this link; other endpoints they named for this peer are told here,
        once, or who waits for them would wait for a dial that is not needed any more.
        """
        self._came_up_at = self._ctx.now.mono
        course = self._courses.get(peer)
        if course is None:
            return
        self._disarm(course)
        course.not_before, course.was_up = 0.0, True
        for target in course.targets.values():
            if target.typed and target.endpoint != told and target.told != UP:
                self._ctx.emit(LinkChanged(peer, target.endpoint, "up"))
            target.told = UP if target.typed else ("", "")
            if contacted:
                target.tries = 0

    def down(self, peer: PeerId, lasted: float) -> None:
        """No link to this peer is up any more; the last was for so many seconds."""
        course = self._courses.get(peer)
        if course is None:
            return
        for target in course.targets.values():
            if lasted >= STABLE_AFTER:
                target.tries = 0
            target.due_at = self._ctx.now.mono + self._pause(target.tries, self._most(target))
            target.tries += 1
        self._arm(course)

    def be_patient(self, peer: PeerId, seconds: float) -> None:
        """Do not dial this peer for so long."""
        course = self._course(peer)
        course.not_before = self._ctx.now.mono + seconds
        self._arm(course)

    # ---- when

    def _pause(self, tries: int, most: float) -> float:
        longest = self._ctx.settings.redial_first * float(1 << min(tries, _MOST_DOUBLINGS))
        return self._ctx.random() * min(longest, most)

    def _pause_after(self, course: DialPlan, target: DialAddress) -> float:
        """Return the pause after a failure: in a crowd the longest at once, but for who was linked in this run."""
        most, crowd = self._most(target), len(self._courses) / CROWD
        if target.typed or crowd <= 1:
            return self._pause(target.tries, most)
        return self._pause(target.tries if course.was_up else _MOST_DOUBLINGS, most * crowd)

    def _most(self, target: DialAddress) -> float:
        settings = self._ctx.settings
        return settings.redial_most if target.reached else settings.redial_never_reached_most

    def _course(self, peer: PeerId) -> DialPlan:
        return self._courses.setdefault(peer, DialPlan(peer))

    def _target(self, course: DialPlan, address: Address) -> DialAddress:
        target = course.targets.get(address.endpoint)
        if target is None:
            reached = bool(address.verified_at)
            teller = "" if reached else address.teller
            target = DialAddress(address.endpoint, pin=address.peer, reached=reached, teller=teller)
            course.targets[address.endpoint] = target
        return target

    def _disarm(self, course: DialPlan) -> None:
        if course.timer is not None:
            course.timer.cancel()
            course.timer = None

    def _arm(self, course: DialPlan) -> None:
        """Dial what is due, or set the timer for what will be."""
        self._disarm(course)
        if self._stopped or course.dials or (course.peer and self._is_up(course.peer)):
            return
        if not course.targets:
            self._courses.pop(course.peer, None)
            return
        target = min(course.targets.values(), key=lambda target: target.due_at)
        self._leave_to_other(target)
        wait = max(target.due_at, course.not_before) - self._ctx.now.mono
        if wait <= _SLACK:
            self._try(course, target)
        else:
            course.timer = self._ctx.after(wait, lambda: self._arm(course))

    def _try(self, course: DialPlan, target: DialAddress) -> None:
        if not course.peer and self._is_reached(target):
            del self._loose[target.endpoint]
        elif not target.typed and not self._has_room():
            target.due_at = self._ctx.now.mono + self._ctx.settings.redial_most
            self._arm(course)
        elif target.teller and not target.typed and self._is_held_back(course, target):
            return
        else:
            self._dial(course, target)

    def _is_reached(self, target: DialAddress) -> bool:
        """Whether an endpoint typed in vain was reached as one that others told, and is linked: it is that one now."""
        address = self._book.get(self._book.owner(target.endpoint), target.endpoint)
        if address is None or not self._is_up(address.peer):
            return False
        self._target(self._course(address.peer), address).typed = True
        return True

    def _dial(self, course: DialPlan, target: DialAddress) -> None:
        self._last_dial += 1
        self._dials[self._last_dial] = (course, target)
        course.dials[self._last_dial] = None
        if target.teller and not target.typed:
            self._told_dials.add(self._last_dial)
            target.has_slot = False
        self._ctx.emit(Dial(self._last_dial, target.endpoint))

    def _is_held_back(self, course: DialPlan, target: DialAddress) -> bool:
        """Whether a told address must wait; its course comes back by itself."""
        settings, now = self._ctx.settings, self._ctx.now.mono
        if self._failures[target.teller] >= settings.told_failures_before_slow and not target.has_slot:
            target.has_slot = True
            target.due_at = max(now, self._next_slot.get(target.teller, now))
            self._next_slot[target.teller] = target.due_at + 1.0
            if target.due_at > now + _SLACK:
                self._arm(course)
                return True
        if len(self._told_dials) >= settings.max_told_dials:
            if not course.queued:
                course.queued = True
                self._queue.append(course)
            return True
        return False

    def _let_next(self) -> None:
        while self._queue and len(self._told_dials) < self._ctx.settings.max_told_dials:
            course = self._queue.popleft()
            course.queued = False
            self._arm(course)
