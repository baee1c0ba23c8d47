"""Questions of agents that people decide, and answers of programs to programs that end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from p2pchat.testing.process_mesh import PATIENCE, Child
from tests.long.cli.agents import agent, person
from tests.ports import free_ports

ASKED = {"to": "ada", "text": "deploy 41?", "choices": ["yes", "no"]}


@pytest.fixture
async def ada(tmp_path: Path) -> AsyncIterator[Child]:
    async with person("ada", tmp_path) as one:
        yield one


async def test_a_person_presses_and_the_first_press_counts(ada: Child, tmp_path: Path) -> None:
    async with agent(tmp_path, ada, "deployer") as deployer:
        asking = asyncio.create_task(deployer.call("ask", **ASKED, key="1", wait=PATIENCE))
        question = await ada.event("message", text="deploy 41?")
        assert question["choices"] == ["yes", "no"] and question["hops"] == 1
        await ada.send("which one was that?", to="deployer")  # no press, so no answer
        await deployer.until_unread(1)
        assert not asking.done()
        await ada.do(do="react", id=question["id"], reaction="perhaps")
        await ada.do(do="react", id=question["id"], reaction="no")
        decided = await asking
        assert (decided["answered"], decided["choice"], decided["by"]) == (True, "no", "ada") and decided["at"]
        await ada.do(do="react", id=question["id"], reaction="yes")
        await ada.event("reaction", id=question["id"], reaction="yes")
        sent = await ada.send("never mind", to="deployer")
        await ada.event("delivered", id=sent["id"])
        again = await deployer.call("ask", **ASKED, key="1", wait=PATIENCE)
        assert again["choice"] == "no" and again["id"] == decided["id"]


async def test_a_decision_answers_no_second_question(ada: Child, tmp_path: Path) -> None:
    """The same words later are asked again: an old yes is not the answer."""
    async with agent(tmp_path, ada, "deployer") as deployer:
        ids = set()
        for turn, choice in enumerate(("yes", "no"), 1):
            asking = asyncio.create_task(deployer.call("ask", **ASKED, wait=PATIENCE))
            question = await ada.wait(lambda line: line.get("text") == "deploy 41?", count=turn)
            await ada.do(do="react", id=question[-1]["id"], reaction=choice)
            decided = await asking
            assert decided["choice"] == choice
            ids.add(decided["id"])
        assert len(ids) == 2


async def test_a_person_decides_on_the_page_of_a_phone(tmp_path: Path) -> None:
    """By a finger: the message shows its buttons meanwhile, and must not move away below it."""
    from tests.web.browser import CHROMIUM, PHONE, opened  # needs playwright

    if not CHROMIUM:
        pytest.skip("there is no chromium on this machine")
    async with opened(tmp_path, viewport=PHONE, has_touch=True, is_mobile=True) as scene:
        beside = f"127.0.0.1:{scene.gateway.port}"
        async with agent(tmp_path, beside, "deployer") as deployer:
            await deployer.until_known("yan", "zoe")
            asking = asyncio.create_task(deployer.call("ask", **(ASKED | {"to": "yan"}), wait=PATIENCE))
            await scene.yan.row("deployer").click()
            message = await scene.yan.sees("deploy 41?")
            await message.get_by_role("button", name="yes", exact=True).tap()
            decided = await asking
            assert (decided["choice"], decided["by"]) == ("yes", "yan") and decided["at"]


async def test_no_press_in_time_is_no_yes_and_a_later_one_is_found_after_a_restart(ada: Child, tmp_path: Path) -> None:
    port = int(free_ports(1)[0])
    async with agent(tmp_path, ada, "deployer", port=port) as deployer:
        asked = await deployer.call("ask", **ASKED, wait=0.1)
        assert not asked["answered"] and "choice" not in asked and "It is not a yes" in asked["next"]
        question = await ada.event("message", text="deploy 41?")
        await ada.event("delivered", id=(await ada.send("wait", to="deployer"))["id"])
        deployer.kill()
        await deployer.gone()
    await ada.do(do="react", id=question["id"], reaction="yes")
    async with agent(tmp_path, ada, "deployer", port=port) as deployer:
        found = await deployer.call("ask", **ASKED, wait=PATIENCE)
        assert (found["choice"], found["by"], found["id"]) == ("yes", "ada", question["id"])
        assert ada.count("message", text="deploy 41?") == 1


async def test_an_agent_cannot_press(ada: Child, tmp_path: Path) -> None:
    """In a group another agent reacts first; that is shown, and decides nothing, before a restart and after."""
    options, port = ("--may", "read,write,groups"), int(free_ports(1)[0])
    async with agent(tmp_path, ada, "reviewer") as reviewer:
        async with agent(tmp_path, ada, "deployer", *options, port=port) as deployer:
            await ada.event("delivered", id=(await ada.send("hello", to="reviewer"))["id"])
            await deployer.call("group", name="ops", members=["ada", "reviewer"])
            asked = {**ASKED, "to": "#ops"}
            await deployer.call("ask", **asked, wait=0)
            question = await ada.event("message", text="deploy 41?")
            await reviewer.until_unread(2)
            await reviewer.call("react", id=question["id"], reaction="yes")
            await ada.event("reaction", id=question["id"], by="reviewer", automatic=True)
            assert not (await deployer.call("ask", **asked, wait=1))["answered"]
        async with agent(tmp_path, ada, "deployer", *options, port=port) as deployer:
            assert not (await deployer.call("ask", **asked, wait=1))["answered"]
            await ada.do(do="react", id=question["id"], reaction="no")
            decided = await deployer.call("ask", **asked, wait=PATIENCE)
            assert (decided["choice"], decided["by"]) == ("no", "ada")


async def test_the_one_who_asks_cannot_press(ada: Child, tmp_path: Path) -> None:
    """Its operator does, in the terminal that runs the agent's peer."""
    port = int(free_ports(1)[0])
    async with (
        person("deployer", tmp_path, port=port) as operator,
        agent(tmp_path, ada, "deployer", port=port) as deployer,
    ):
        await operator.do(do="connect", endpoint=ada.endpoint)
        await deployer.until_known("ada")
        asked = await deployer.call("ask", **ASKED, wait=PATIENCE / 10, key="1")
        await operator.do(do="react", id=asked["id"], reaction="yes")
        await ada.event("reaction", id=asked["id"], by="deployer", reaction="yes")
        assert not (await deployer.call("ask", **ASKED, wait=0, key="1"))["answered"]
        await ada.do(do="react", id=asked["id"], reaction="no")
        decided = await deployer.call("ask", **ASKED, wait=PATIENCE, key="1")
        assert (decided["choice"], decided["by"]) == ("no", "ada")


async def test_agents_that_answer_each_other_come_to_an_end(ada: Child, tmp_path: Path) -> None:
    async with agent(tmp_path, ada, "one") as one, agent(tmp_path, ada, "two") as two:
        await ada.event("delivered", id=(await ada.send("hello", to="one"))["id"])
        await ada.event("delivered", id=(await ada.send("hello", to="two"))["id"])
        hops = []
        writer, reader = one, two
        await one.until_known("two")
        await two.until_known("one")
        for turn in range(8):
            await writer.call("send", to="two" if writer is one else "one", text=f"turn {turn}", wait=PATIENCE)
            found = (await reader.call("inbox", wait=PATIENCE))["messages"]
            hops += [message["hops"] for message in found if message["text"] == f"turn {turn}"]
            writer, reader = reader, writer
        assert hops == [1, 2, 3, 4, 5, 6, 7, 8]
        says = await writer.refusal("ask", {"to": "two", "text": "and now?"})
        assert says == "programs answered each other 8 times there: a person has to write first"


async def test_wrong_choices_are_refused(ada: Child, tmp_path: Path) -> None:
    async with agent(tmp_path, ada, "deployer") as deployer:
        for choices in (["yes"], ["yes", "yes"], ["yes", "certainly not"]):
            assert "choice" in await deployer.refusal("ask", {**ASKED, "choices": choices})
