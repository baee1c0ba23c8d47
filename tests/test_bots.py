"""Bots: what the words behind a command mean, who is answered, and that each message is handled once."""

from __future__ import annotations

import asyncio
import functools
import gc
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from p2pchat import Joined, Message, TCPPeer, User, bots
from p2pchat.bots import Bot, BotCommand, BotContext, CommandUsageError
from p2pchat.testing import Mesh, mesh
from tests.deadlines import until

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 60.0  # seconds for anything; the machine may be very busy


@asynccontextmanager
async def serving(bot: Bot, peer: TCPPeer) -> AsyncIterator[None]:
    task = asyncio.create_task(bot.serve(peer))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def net() -> AsyncIterator[Mesh]:
    async with mesh("wbot", "zoe", "yan") as net, asyncio.timeout(PATIENCE):
        yield net


async def answers(peer: TCPPeer, count: int) -> list[str]:
    """Return the next texts that a bot writes to this user, or where it can read them."""
    async with asyncio.timeout(PATIENCE), peer.events(Message) as events:
        texts = [(await anext(events)).text for _ in range(count)]
        await events.ack()
        return texts


def test_an_annotation_may_name_what_only_type_checkers_import() -> None:
    """Linters move imports under TYPE_CHECKING, where they are not there at all when the program runs."""

    names: dict[str, Any] = {}
    exec(FOR_CHECKERS, names)
    command = BotCommand(names["poke"], "poke")
    assert [(each.name, each.type) for each in command.parameters] == [("who", User), ("times", int)]
    with pytest.raises(TypeError, match="parameter what of the command odd must be one of str, int"):
        BotCommand(names["odd"], "odd")


FOR_CHECKERS = """
from __future__ import annotations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from p2pchat import User
    from p2pchat.bots import BotContext

def poke(ctx: BotContext, who: User, times: int | None = None) -> BotContext: ...
def odd(what: BotContext) -> None: ...
"""


async def test_a_bot_tells_its_commands_as_far_as_there_is_room(net: Mesh) -> None:
    peer, zoe, _ = net.peers
    bot = Bot("wbot", about="I tell the weather")
    bot.command("weather")(days)
    async with serving(bot, peer):
        await zoe.send("wbot", "help")
        await answers(zoe, 1)
    await net.settle()
    assert zoe.user("wbot").about == "I tell the weather · /weather /help"
    for number in range(100):
        bot.command(f"weather{number}")(days)
    async with serving(bot, peer):
        await zoe.send("wbot", "help weather")
        await answers(zoe, 1)
    await net.settle()
    about = zoe.user("wbot").about
    assert about.startswith("I tell the weather · /weather /weather0 ") and 500 < len(about) <= 512
    assert about.split()[-1] in {f"/weather{number}" for number in range(100)}  # whole words only


# ---- words


def days(city: str, days: int = 1, *, note: str = "") -> None: ...
def total(*numbers: float) -> None: ...
def switch(lamp: str, on: bool) -> None: ...


@pytest.mark.parametrize(
    ("function", "text", "parsed"),
    [
        (days, "berlin", (["berlin"], {})),
        (days, " berlin  3", (["berlin", 3], {})),
        (days, '"new york" 2 take  a coat', (["new york", 2], {"note": "take  a coat"})),
        (days, "“new york” 2", (["new york", 2], {})),
        (days, "it's", (["it's"], {})),
        (days, "", "CITY is missing"),
        (days, "berlin soon", "DAYS is a whole number, not 'soon'"),
        (total, "", ([], {})),
        (total, "1 2.5 -3", ([1.0, 2.5, -3.0], {})),
        (total, "1 two", "NUMBERS is a number, not 'two'"),
        (total, "nan", "NUMBERS is a number, not 'nan'"),
        (total, "1 -Infinity", "NUMBERS is a number, not '-Infinity'"),
        (total, "1e999", "NUMBERS is a number, not '1e999'"),
        (switch, "hall ON", (["hall", True], {})),
        (switch, "hall no", (["hall", False], {})),
        (switch, "hall maybe", "ON is yes or no, not 'maybe'"),
        (switch, "hall on now", "'now' is too much"),
    ],
)
async def test_annotations_say_what_words_mean(function: Any, text: str, parsed: Any) -> None:
    command = BotCommand(function, "it")
    async with mesh("wbot") as net:
        if isinstance(parsed, str):
            with pytest.raises(CommandUsageError, match=f"^{re.escape(parsed)}$"):
                command.parse(text, net.peers[0])
        else:
            assert command.parse(text, net.peers[0]) == parsed


def words(*words: str) -> None: ...


async def test_words_of_many_open_quotes_take_little_time() -> None:
    """Anybody can send them, and they are read in the loop of the peer."""
    async with mesh("wbot") as net:
        begun = time.thread_time()
        with pytest.raises(CommandUsageError, match="the quote at „ does not end: put a “ behind it"):
            BotCommand(words, "it").parse("„ " * 8_000, net.peers[0])  # 32 KiB
        assert BotCommand(words, "it").parse("‚a‘ " * 4_000, net.peers[0]) == (["a"] * 4_000, {})
        assert time.thread_time() - begun < 0.25  # measured: 0.02 s, and 1 s when each was searched to the end


def test_a_usage_line_shows_what_may_be_left_out() -> None:
    assert [BotCommand(each, each.__name__).usage for each in (days, total, switch)] == [
        "days CITY [DAYS] [NOTE]", "total [NUMBERS]...", "switch LAMP ON"
    ]  # fmt: skip


def takes_list(words: list[str]) -> None: ...
def takes_names(**words: str) -> None: ...
def takes_twice(*words: str, rest: str) -> None: ...


@pytest.mark.parametrize(
    ("function", "said"),
    [(takes_list, "must be one of str, int"), (takes_names, "words have no names"), (takes_twice, "twice")],
)
def test_a_command_that_words_cannot_fill_is_refused_at_once(function: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        Bot("wbot").command(function)


def test_two_commands_of_one_name_are_refused() -> None:
    bot = Bot("wbot")
    bot.command("days", aliases=["d"])(days)
    with pytest.raises(ValueError, match="two commands called D"):
        bot.command("D")(total)
    with pytest.raises(ValueError, match="one word"):
        bot.command("two words")(total)


# ---- answers


def weather_bot() -> Bot:
    bot = Bot("wbot", prefix="!")

    @bot.command
    def weather(city: str) -> str:
        """Tell the weather in a city.

        Only for cities.
        """
        return f"{city}: sunny"

    @bot.command(aliases=["hi"])
    async def greet(ctx: BotContext, who: User | None = None) -> None:
        await ctx.react("👋")
        await ctx.reply(f"{ctx.user.name} greets {who.name if who else 'all'} in {ctx.conversation.kind}")

    @bot.command
    def broken() -> str:
        raise RuntimeError("on purpose")

    return bot


async def test_a_bot_answers_in_a_direct_conversation(net: Mesh, caplog: pytest.LogCaptureFixture) -> None:
    peer, zoe, _ = net.peers
    async with serving(weather_bot(), peer):
        asked = (
            "weather berlin",
            "/weather rome",
            "Weather",
            "hi yan",
            "hi nobody",
            "broken",
            "help weather",
            "wether",
        )
        for text in (*asked, "help"):
            await zoe.send("wbot", text)
        assert await answers(zoe, 9) == [
            "berlin: sunny",
            "rome: sunny",
            "CITY is missing. Usage: weather CITY",
            "zoe greets yan in dm",
            "nobody here is called 'nobody'; known are yan, zoe. Usage: greet [WHO]",
            "that failed; the log of this bot has the reason",
            "weather CITY\nTell the weather in a city.\n\nOnly for cities.",
            "there is no command 'wether': help shows what I can do",
            "help [COMMAND]: List the commands, or explain one.\nweather CITY: Tell the weather in a city.\n"
            "greet [WHO]\nbroken",
        ]
    assert [record.exc_info is not None for record in caplog.records if record.levelname == "ERROR"] == [True]


async def test_in_the_room_a_bot_answers_only_who_means_it(net: Mesh) -> None:
    peer, zoe, yan = net.peers
    async with serving(weather_bot(), peer):
        for text in ("weather berlin", "@wbot weather rome", "wbot is fine", "!weather oslo", "@WBOT: weather bern"):
            await zoe.broadcast(text)
        await yan.send("wbot", "weather end")
        assert await answers(zoe, 3) == ["rome: sunny", "oslo: sunny", "bern: sunny"]


async def test_two_bots_do_not_answer_each_other_for_ever(net: Mesh) -> None:
    peer, zoe, yan = net.peers
    async with serving(Bot("wbot"), peer), serving(Bot("zoe"), zoe):
        await peer.send("zoe", "hello there")
        assert await answers(peer, 1) == ["there is no command 'hello': help shows what I can do"]
        await net.settle()
        await yan.send("wbot", "help")  # what follows was asked later
        await answers(yan, 1)
        assert len(await peer.history("@zoe")) == 2


@pytest.mark.parametrize("said", ["help", "ping", "fail", "ping much", "nothing", "long"])
async def test_two_bots_with_the_same_commands_end_after_one_answer(net: Mesh, said: str) -> None:
    peer, zoe, yan = net.peers

    def twin(name: str) -> Bot:
        bot = Bot(name, prefix="!")

        @bot.command
        def ping() -> str:
            return "ping"

        @bot.command
        def long() -> str:
            return "long " * 10_000

        @bot.command(aliases=["that", "there", "the", "TEXT"])
        def fail(*, text: str = "") -> None:
            raise RuntimeError

        return bot

    async with serving(twin("wbot"), peer), serving(twin("zoe"), zoe):
        await peer.send("zoe", said)
        await answers(peer, 1)
        await net.settle()
        await yan.send("wbot", "ping")  # what follows was asked later
        await answers(yan, 1)
        _, answer = await peer.history("@zoe")
        assert answer.automatic == (said != "ping")


async def test_bots_whose_handlers_of_messages_fail_do_not_answer_each_other(net: Mesh) -> None:
    peer, zoe, yan = net.peers

    def failing(name: str) -> Bot:
        bot = Bot(name)

        @bot.on(Message)
        def fail(message: Message) -> None:
            raise RuntimeError

        return bot

    async with serving(failing("wbot"), peer), serving(failing("zoe"), zoe):
        said = await peer.send("zoe", "hello there")
        await said.read(timeout=PATIENCE)
        await net.settle()
        await yan.send("wbot", "help help")
        await answers(yan, 1)
        assert [post.automatic for post in await peer.history("@zoe")] == [False, True]


async def test_a_bot_says_one_hop_more_and_answers_none_after_eight(net: Mesh) -> None:
    peer, zoe, _ = net.peers
    async with serving(weather_bot(), peer):
        for hops in (0, 1, 7, 8, 255):
            await zoe.send("wbot", "weather oslo", hops=hops)
            await zoe.send("wbot", "nonsense", hops=hops)
        await (await zoe.send("wbot", "weather rome")).read(timeout=PATIENCE)
        await net.settle()
        said = [post.hops for post in await zoe.history("@wbot") if isinstance(post, Message)]
        assert said == [0, 0, 2, 2, 8, 8, 0]


async def test_a_function_that_nobody_asked_answers_by_itself_or_counts_as_the_message_does(net: Mesh) -> None:
    peer, zoe, _ = net.peers
    bot = Bot("wbot")

    @bot.on(Message)
    async def answer(message: Message) -> None:
        await message.reply("noted")
        await message.reply("said", automatic=False, hops=0)

    @bot.command
    async def ask(ctx: BotContext) -> None:
        await ctx.message.reply("asked")

    async with serving(bot, peer):
        for text, hops in (("hello", 0), ("hello", 1), ("ask", 0)):
            await zoe.send("wbot", text, hops=hops)
        assert await answers(zoe, 5) == ["noted", "said", "noted", "said", "asked"]
        said = [
            (post.text, post.automatic, post.hops) for post in await zoe.history("@wbot") if isinstance(post, Message)
        ]
    assert said == [
        ("noted", True, 0),
        ("said", False, 0),
        ("noted", False, 2),
        ("said", False, 0),
        ("asked", False, 0),
    ]


async def test_a_conversation_is_told_of_a_failure_once_a_minute(net: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    peer, zoe, yan = net.peers
    failed = "that failed; the log of this bot has the reason"
    async with serving(weather_bot(), peer):
        for text in ("broken", "broken", "broken", "weather rome"):
            await zoe.send("wbot", text)
        assert await answers(zoe, 2) == [failed, "rome: sunny"]
        await yan.send("wbot", "broken")
        assert await answers(yan, 1) == [failed]
        monkeypatch.setattr("p2pchat.bots.FAILED_EVERY", 0.0)
        await zoe.send("wbot", "broken")
        assert await answers(zoe, 1) == [failed]


async def test_messages_that_are_no_commands_go_to_their_handler_in_order(net: Mesh) -> None:
    peer, zoe, _ = net.peers
    bot, seen = weather_bot(), asyncio.Queue[str]()

    @bot.on(Message)
    async def on_message(message: Message) -> None:
        await seen.put(message.text)

    async with serving(bot, peer):
        for text in ("one", "weather berlin", "two"):
            await zoe.send("wbot", text)
        assert [await seen.get(), await seen.get(), await answers(zoe, 1)] == ["one", "two", ["berlin: sunny"]]


# ---- handlers that fail, and those that are no plain functions


@pytest.mark.parametrize("error", [asyncio.CancelledError, StopIteration, SystemExit, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "plain"])
async def test_whatever_a_handler_raises_fails_its_own_message_alone(
    net: Mesh, error: type[BaseException], is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    peer, zoe, _ = net.peers
    bot, ticks = Bot("wbot"), list[str]()

    def plain() -> None:
        raise error

    async def awaited() -> None:
        raise error

    handler = awaited if is_async else plain
    bot.command("fail")(handler)
    bot.on(Joined)(handler)

    @bot.every(seconds=0.01)
    async def tick() -> None:
        ticks.append("tick")
        if is_async:
            raise error

    bot.every(seconds=0.01)(handler)
    async with serving(bot, peer):
        await net.add("xia")
        failed = await zoe.send("wbot", "fail")
        await zoe.send("wbot", "help help")
        assert await answers(zoe, 2) == [
            "that failed; the log of this bot has the reason",
            "help [COMMAND]\nList the commands, or explain one.",
        ]
        await failed.read(timeout=PATIENCE)
        seen = len(ticks)
        await until(lambda: len(ticks) > seen, "the periodic handler to be called again")
        await until(lambda: "failed" in caplog.text, "the log of a failed handler")
    assert error.__name__ in caplog.text


async def test_a_handler_that_is_stopped_before_it_began_leaves_nothing(recwarn: pytest.WarningsRecorder) -> None:
    async def handler() -> None:
        raise AssertionError("it began")

    call = asyncio.create_task(bots._call(handler))
    await asyncio.sleep(0)  # its task is made, and has not begun
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    del call  # with the frames of its exception
    await asyncio.sleep(0)  # the loop lets go of the last one
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []


async def test_a_handler_that_cancels_its_own_task_stops_nothing(net: Mesh) -> None:
    peer, zoe, _ = net.peers
    bot = Bot("wbot")

    @bot.command
    async def cancel() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async with serving(bot, peer):
        for text in ("cancel", "help help"):
            await zoe.send("wbot", text)
        failed, helped = await answers(zoe, 2)
        assert (failed.split(";")[0], helped.split("\n")[0]) == ("that failed", "help [COMMAND]")


async def test_what_a_stop_interrupts_is_handled_by_the_next_run(net: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    peer, zoe, _ = net.peers
    monkeypatch.setattr("p2pchat.bots.GRACE", 0.01)
    bot, calls = Bot("wbot"), asyncio.Queue[None]()
    go_on = asyncio.Event()

    @bot.command
    async def wait() -> str:
        calls.put_nowait(None)
        try:
            await go_on.wait()
        except asyncio.CancelledError:
            raise SystemExit from None
        return "waited"

    async with serving(bot, peer):
        await zoe.send("wbot", "wait")
        await calls.get()
    go_on.set()
    async with serving(bot, peer):
        assert await answers(zoe, 1) == ["waited"]


async def test_decorated_bound_and_callable_objects_are_handlers(net: Mesh) -> None:
    peer, zoe, _ = net.peers
    bot, seen = Bot("wbot", prefix="!"), asyncio.Queue[str]()

    def logged(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*values: Any) -> Any:
            return function(*values)

        return wrapper

    async def add(unit: str, first: int, second: int = 1, *, sign: str = "") -> str:
        """Add numbers."""
        return f"{sign}{first + second} {unit}"

    class Greeting:
        """Greet."""

        async def __call__(self, ctx: BotContext, name: str) -> str:
            return f"{ctx.user.name} greets {name}"

    @logged
    async def on_message(message: Message) -> None:
        seen.put_nowait(message.text)

    bot.command(functools.partial(add, "m", sign="+"))
    bot.command(Greeting())
    bot.command("double")(logged(lambda word: word * 2))
    bot.on(Message)(on_message)
    bot.every(seconds=60)(functools.partial(seen.put, "tick"))
    assert [each.usage for each in bot.commands.values()] == [
        "help [COMMAND]",
        "add FIRST [SECOND]",
        "greeting NAME",
        "double WORD",
    ]
    assert [each.summary for each in bot.commands.values()][1:] == ["Add numbers.", "Greet.", ""]
    async with serving(bot, peer):
        assert await seen.get() == "tick"
        for text in ("add 2 3", "greeting yan", "double la", "no command"):
            await zoe.send("wbot", text)
        assert await answers(zoe, 3) == ["+5 m", "zoe greets yan", "lala"]
        assert await seen.get() == "no command"


@pytest.mark.parametrize("blank", [" ", "\t", "\N{NO-BREAK SPACE}", "\n", "\N{IDEOGRAPHIC SPACE}", " \t\n "])
async def test_any_blank_separates_a_command_from_its_words(net: Mesh, blank: str) -> None:
    peer, zoe, _ = net.peers
    async with serving(weather_bot(), peer):
        await zoe.broadcast(f"@wbot{blank}weather{blank}bern")
        await answers(zoe, 1)
        await zoe.send("wbot", f"weather{blank}rome")
        assert await answers(zoe, 1) == ["rome: sunny"]
    with pytest.raises(ValueError, match="one word"):
        Bot("wbot").command(f"two{blank}words")(total)
    with pytest.raises(ValueError, match="no blanks"):
        Bot("wbot", prefix=f"!{blank}")


# ---- once


async def test_what_came_while_the_bot_was_away_is_handled_once_and_in_order(net: Mesh) -> None:
    peer, zoe, _ = net.peers
    bot, handled, go_on = Bot("wbot"), list[str](), asyncio.Event()

    @bot.command
    async def note(text: str) -> None:
        handled.append(text)
        if text == "stuck":
            await go_on.wait()

    async with serving(bot, peer):
        first = await zoe.send("wbot", "note first")
        await first.read(timeout=PATIENCE)
    for text in ("note second", "note stuck", "note last"):
        receipt = await zoe.send("wbot", text)
    await receipt.delivered(timeout=PATIENCE)
    await net.crash(peer)
    peer = await net.restart(peer)
    task = asyncio.create_task(bot.serve(peer))
    while handled[-1] != "stuck":
        await asyncio.sleep(0.01)  # poll: the handler does not answer
    await net.crash(peer)  # in the middle of a message
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    go_on.set()
    async with serving(bot, await net.restart(peer)):
        await receipt.read(timeout=PATIENCE)
    assert handled == ["first", "second", "stuck", "stuck", "last"]


async def test_a_handler_that_waits_holds_up_its_own_conversation_alone(net: Mesh) -> None:
    peer, zoe, yan = net.peers
    bot, go_on = Bot("wbot", at_once=2), asyncio.Event()

    @bot.command
    async def wait() -> str:
        await go_on.wait()
        return "waited"

    async with serving(bot, peer):
        for text in ("wait", "help help"):
            await zoe.send("wbot", text)
        await yan.send("wbot", "help help")
        [said] = await answers(yan, 1)
        assert said.startswith("help [COMMAND]")
        go_on.set()
        assert await answers(zoe, 2) == ["waited", said]


async def test_handlers_of_events_and_periodic_ones(net: Mesh) -> None:
    peer, *_ = net.peers
    bot, seen = Bot("wbot"), asyncio.Queue[str]()

    @bot.on(Joined)
    async def on_joined(event: Joined) -> None:
        await seen.put(event.user.name)

    @bot.every(seconds=0.01)
    def tick() -> None:
        raise RuntimeError("the others go on")

    @bot.every(seconds=0.01)
    async def tock() -> None:
        seen.put_nowait("tock")

    async with serving(bot, peer):
        assert await seen.get() == "tock"
        await net.add("xia")
        while await seen.get() != "xia":
            pass
    with pytest.raises(ValueError, match="above 0"):
        bot.every(seconds=0)
    with pytest.raises(TypeError, match="classes of events"):
        bot.on()
