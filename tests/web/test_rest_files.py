"""Files over REST: uploads, messages with files, downloads and links."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from p2pchat import Settings, TCPPeer
from p2pchat.core.content.pieces import PIECE_BYTES
from p2pchat.web import Pace, WebSettings, create_app
from p2pchat.web.account_files import KEPT_FOR, LINK_SECONDS, MAX_KEPT, FileLinks, Uploads
from p2pchat.web.rest_files import disposition, range_of
from tests.deadlines import within
from tests.web.chat_client import chatting
from tests.web.conftest import Served, listening, serving
from tests.web.raw_http import ask, read_answer, request
from tests.web.socketio_client import talking
from tests.web.test_event_socket import calling
from tests.web.test_rest import refused

DATA = random.Random(2).randbytes(2 * PIECE_BYTES + 77)


async def sent(
    served: Served, *files: tuple[str, str, bytes], to: str = "bob", by: str = "ada", group: str = ""
) -> str:
    """Upload files (name, type, content) and send them in one message without a text, to a user or a group; return its
    id.
    """
    async with served.client(by) as http:
        ids = []
        for name, kind, content in files:
            kept = await http.post(
                "/v1/files", params={"filename": name}, content=content, headers={"Content-Type": kind}
            )
            assert kept.status_code == 201, kept.text
            ids.append(kept.json()["id"])
        answer = await http.post("/v1/messages", json={**({"group": group} if group else {"to": to}), "files": ids})
    assert answer.status_code == 201, answer.text
    id: str = answer.json()["id"]
    return id


@pytest.fixture
async def people(served: Served) -> Served:
    await served.register("ada", "bob", "eve")
    return served


async def test_a_file_is_uploaded_in_parts_sent_and_downloaded(people: Served) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(DATA), 100_000):
            yield DATA[start : start + 100_000]

    async with people.client("ada") as ada, people.client("bob") as bob:
        kept = (await ada.post("/files", params={"filename": "a.png"}, content=parts())).json()
        assert {**kept, "id": "", "root": ""} == {
            "status": "ok", "id": "", "name": "a.png", "size": len(DATA), "type": "image/png", "root": "",
        }  # fmt: skip
        for text in ("look", ""):
            said = {"to": "bob", "content": text, "files": [kept["id"]]}
            id = (await ada.post("/messages", json=said)).json()["id"]
            [*_, found] = (await bob.get("/messages", params={"user1": "ada", "user2": "bob"})).json()
            file = {"name": "a.png", "size": len(DATA), "type": "image/png", "root": kept["root"], "here": True,
                    "held_by": 1}  # fmt: skip
            assert (found["id"], found["content"], found["files"]) == (id, text, [file])
        whole = await bob.get(f"/v1/files/{id}/0")
        assert (whole.status_code, whole.content) == (200, DATA)
        assert whole.headers["content-type"] == "image/png"
        assert whole.headers["etag"] == f'"{kept["root"]}"' and whole.headers["accept-ranges"] == "bytes"
        assert whole.headers["content-disposition"] == "inline; filename=\"a.png\"; filename*=UTF-8''a.png"
        assert whole.headers["content-security-policy"] == "default-src 'none'; sandbox; frame-ancestors 'none'"
        assert whole.headers["x-content-type-options"] == "nosniff"
        assert whole.headers["cross-origin-resource-policy"] == "same-origin"
        head = await bob.head(f"/v1/files/{id}/0")
        assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(DATA)))


async def test_a_part_of_a_file_is_what_its_range_names(people: Served) -> None:
    id = await sent(people, ("a.webm", "video/webm", DATA), ("empty", "", b""))
    size = len(DATA)
    async with people.client("bob") as bob:

        async def get(index: int = 0, **headers: str) -> httpx.Response:
            return await bob.get(f"/files/{id}/{index}", headers={k.replace("_", "-"): v for k, v in headers.items()})

        tag = (await get()).headers["etag"]
        for header, start, stop in (
            ("bytes=0-0", 0, 1), ("bytes=5-9", 5, 10), (f"bytes={PIECE_BYTES - 1}-{PIECE_BYTES}", PIECE_BYTES - 1,
            PIECE_BYTES + 1), (f"bytes={size - 1}-", size - 1, size), ("bytes=-3", size - 3, size),
            (f"bytes=7-{10 * size}", 7, size), (f"bytes=-{2 * size}", 0, size),
        ):  # fmt: skip
            part = await get(range=header, if_range=tag)
            assert (part.status_code, part.content) == (206, DATA[start:stop]), header
            assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
        for header in ("bytes=9-5", "bytes=0-1,3-4", "lines=1-2", "bytes=-", "bytes=a-b"):  # ignored
            assert (await get(range=header)).content == DATA
        assert (await get(range="bytes=0-0", if_range='"another"')).status_code == 200
        for index, header in ((0, f"bytes={size}-"), (0, "bytes=-0"), (1, "bytes=0-")):
            nothing = await get(index, range=header)
            assert refused(nothing) == (416, "range")
            assert nothing.headers["content-range"] == f"bytes */{0 if index else size}"
        assert (await get(1)).content == b""
        same = await get(if_none_match=f'W/"x", {tag}')
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)


async def test_only_pictures_sound_and_films_are_shown_and_names_are_harmless(people: Served) -> None:
    harmful = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    id = await sent(
        people, ("a.svg", "image/svg+xml", harmful), ("a.html", "text/html", harmful),
        ("a.pdf", "application/pdf", b""),
        ("a.png", "image/png", harmful), ("../..\\caf\u00e9 \u202egnp.exe", "image/jpeg", b"x"),
        ("a.xml", "Text/XML; a=b", b"x"),
    )  # fmt: skip
    async with people.client("bob") as bob:
        kinds = []
        for index in range(6):
            found = await bob.get(f"/v1/files/{id}/{index}")
            kinds.append((found.headers["content-type"], found.headers["content-disposition"].partition(";")[0]))
            assert found.headers["x-content-type-options"] == "nosniff"
            assert "sandbox" in found.headers["content-security-policy"]
            if index == 4:
                names = found.headers["content-disposition"].partition("; ")[2]
                assert names == "filename=\"caf_ gnp.exe\"; filename*=UTF-8''caf%C3%A9%20gnp.exe"
    unsafe = ("application/octet-stream", "attachment")
    assert kinds == [unsafe, unsafe, unsafe, ("image/png", "inline"), ("image/jpeg", "inline"), unsafe]


async def test_nobody_gets_what_is_not_for_him(people: Served) -> None:
    id = await sent(people, ("a.txt", "", b"secret"))
    async with people.client("ada") as ada, people.client("eve") as eve, people.client() as nobody:
        root = (await ada.get(f"/messages/{id}")).json()["files"][0]["root"]
        kept = (await ada.post("/files", params={"filename": "b"}, content=b"b")).json()["id"]
        assert (await eve.get(f"/files/{id}/0")).status_code == 404
        assert (await eve.post(f"/files/{id}/0/link")).status_code == 404
        assert (await eve.delete(f"/files/{id}/0")).status_code == 404
        assert refused(await nobody.get(f"/files/{id}/0")) == (401, "unauthorized")
        assert refused(await nobody.post("/files", params={"filename": "b"}, content=b"b")) == (401, "unauthorized")
        for file in (root, kept, "x"):  # neither a hash nor what another account uploaded
            answer = await eve.post("/messages", json={"to": "eve", "files": [file]})
            assert refused(answer) == (404, "unknown_upload")
        assert refused(await ada.get(f"/files/{id}/1")) == (404, "unknown_file")
        assert (await ada.get(f"/files/{id}/-1")).status_code == 422
        await ada.delete(f"/messages/{id}")
        assert refused(await ada.get(f"/files/{id}/0")) == (404, "unknown_file")
        many = await ada.post("/messages", json={"to": "bob", "files": [kept] * 11})
        assert many.status_code == 422


async def test_who_was_removed_from_a_group_gets_no_file_that_is_sent_there_afterwards(people: Served) -> None:
    async with people.client("ada") as ada, people.client("bob") as bob, people.client("eve") as eve:
        await ada.post("/groups", json={"name": "ops", "members": ["bob", "eve"]})
        before = await sent(people, ("a.txt", "", b"before"), group="ops")
        assert (await eve.get(f"/files/{before}/0")).content == b"before"
        await ada.delete("/groups/ops/members/eve")
        after = await sent(people, ("b.txt", "", b"after"), group="ops")
        assert (await bob.get(f"/files/{after}/0")).content == b"after"
        assert (await eve.get(f"/files/{after}/0")).status_code == 404
        assert (await eve.post(f"/files/{after}/0/link")).status_code == 404
        assert (await eve.get(f"/files/{before}/0")).content == b"before"


async def test_a_link_needs_no_token_and_is_for_one_file_and_one_hour(
    people: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await sent(people, ("a.png", "", b"a"), ("b.png", "", b"b"))
    async with people.client("bob") as bob, people.client() as browser:
        path = (await bob.post(f"/v1/files/{id}/0/link")).json()["path"]
        assert (await browser.get(f"/{path}")).content == b"a"
        assert (await browser.get(f"/v1/{path}", headers={"Range": "bytes=0-0"})).status_code == 206
        for wrong in (
            path.replace("/0?", "/1?"),
            f"{path}0",
            path.replace("ticket=", "ticket=9"),
            f"{path[:90]}",
            path[:-64],
        ):
            assert (await browser.get(f"/{wrong}")).status_code == 401, wrong
        cross = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
        assert refused(await browser.get(f"/{path}", headers=cross)) == (403, "origin")
        await people.gateway.accounts.new_token("bob")
        assert refused(await browser.get(f"/{path}")) == (401, "unauthorized")
        account = people.account("bob")
        now = 1000.0
        monkeypatch.setattr("p2pchat.web.account_files.time", lambda: now)
        links = FileLinks(people.gateway.accounts.of)
        ticket = links.ticket(account, id, 0)
        now += LINK_SECONDS - 1
        assert links.account_of(ticket, id, 0) is account
        now += 1
        for wrong in (ticket, "", "1.2", f"{10**20}.{account.key}.{'0' * 64}", f"²3.{account.key}.é"):
            with pytest.raises(Exception, match="this link is over"):
                links.account_of(wrong, id, 0)


async def test_uploads_have_limits(serve: Callable[..., Any], home: Path) -> None:
    pace = Pace(1.0, 3000)
    served: Served = await serve(WebSettings(max_file_bytes=2000, stored=pace, body_timeout=0.2))
    await served.register("ada", "bob")

    async def parts(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * 500

    async with served.client("ada") as ada, served.client("bob") as bob:
        params = {"filename": "a"}
        assert (await ada.post("/files", params=params, content=b"x" * 2000)).status_code == 201
        assert refused(await ada.post("/files", params=params, content=b"x" * 2001)) == (413, "too_large")
        assert refused(await bob.post("/files", params=params, content=parts(5))) == (413, "too_large")
        late = await ada.post("/files", params=params, content=b"x" * 2000)
        assert refused(late) == (429, "too_many") and int(late.headers["retry-after"]) > 900
        assert (await ada.post("/files", params=params, content=b"x" * 900)).status_code == 201
        bearer, host = f"Authorization: Bearer {served.tokens['bob']}", f"127.0.0.1:{served.port}"
        slow = request("/files?filename=a", bearer, "Content-Length: 9", method="POST", host=host)
        answer = await ask(served.port, slow + b"x")
        assert (answer.status, answer.code) == (408, "slow")
        assert (await bob.post("/files", content=b"x")).status_code == 422
        form = await bob.post("/files", params=params, files={"file": b"x"})
        assert form.status_code == 415 and "curl -T" in form.json()["text"]


async def test_who_sends_a_small_file_that_is_refused_reads_the_answer(people: Served) -> None:
    """The connection ended with the body unread, so on a loaded machine its client read a reset."""
    bearer, host = f"Authorization: Bearer {people.tokens['ada']}", f"127.0.0.1:{people.port}"
    reader, writer = await asyncio.open_connection("127.0.0.1", people.port)
    for body in (b"x" * 9, b"x" * 9):
        writer.write(request("/files", bearer, "Content-Length: 9", method="POST", host=host) + body[:4])
        await writer.drain()
        writer.write(body[4:])
        answer = await read_answer(reader)
        assert (answer.status, answer.headers.get("connection")) == (422, None)
    writer.close()


@pytest.mark.parametrize("of", ["account", "link", "address"])
async def test_what_is_downloaded_counts_as_calls(serve: Callable[..., Any], of: str) -> None:
    """An account took the whole gateway's time with downloads, each of which counted as one call."""
    few = Pace(1e-9, 20)
    limited = {"addresses": few, "trusted_proxies": ("127.0.0.1",)} if of == "address" else {"calls": few}
    served: Served = await serve(WebSettings(**limited))
    await served.register("ada", "bob")
    id = await sent(served, ("a.bin", "", bytes(40 * PIECE_BYTES)))
    limits, account = served.gateway.limits, served.account("bob")
    async with served.client("bob") as bob:
        path, headers = f"/files/{id}/0", {"X-Forwarded-For": "203.0.113.9"} if of == "address" else {}
        if of == "link":
            path = "/" + (await bob.post(f"{path}/link")).json()["path"]
        assert len((await bob.get(path, headers=headers)).content) == 40 * PIECE_BYTES
    limiter, key, counted = {
        "account": (limits.calls, account.key, 8),
        "link": (limits.calls, f"links of {account.key}", 8),
        "address": (limits.addresses, "203.0.113.9", 4),
    }[of]
    assert limiter.wait(key, 20 - counted)  # seconds, until it has as many as without this and its own call
    assert not limiter.wait(key, 20 - counted - 2)


async def test_a_full_disk_is_told_and_nothing_stays(home: Path) -> None:
    full = Settings(min_free_disk_bytes=1 << 60)
    async with TCPPeer(data=home / "full", name="gate", settings=full) as peer:
        app = create_app(peer, WebSettings(trust_loopback=True))
        async with listening(app) as port:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
                answer = await http.post("/files", params={"filename": "a", "as": "ada"}, content=b"x")
                assert refused(answer) == (507, "no_room")
        await app.state.gateway.aclose()
        assert list((home / "full" / "content").iterdir()) == []


async def test_uploads_are_forgotten_after_an_hour_and_beyond_a_hundred(
    people: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = people.account("ada")
    now = 0.0
    monkeypatch.setattr("p2pchat.web.account_files.monotonic", lambda: now)
    uploads = Uploads(WebSettings(), people.gateway.limits)

    async def body() -> AsyncIterator[bytes]:
        yield b"x"

    ids = [(await uploads.keep(account, "a", "", 1, body())).id for _ in range(MAX_KEPT)]
    assert len(uploads.find(account, ids[:10])) == 10
    newest = (await uploads.keep(account, "a", "", None, body())).id
    with pytest.raises(Exception, match="you have no upload"):
        uploads.find(account, ids[:1])
    assert uploads.find(account, [ids[1], newest])
    now = KEPT_FOR
    with pytest.raises(Exception, match=r"the gateway that took it keeps it .* upload the file again to this one"):
        uploads.find(account, [newest])


async def test_a_deleted_message_takes_its_upload_along_unless_another_one_has_it(people: Served) -> None:
    holds = people.peer._lifecycle.started_driver.content.holds
    async with people.client("ada") as ada:
        kept = (await ada.post("/files", params={"filename": "a.png"}, content=DATA)).json()
        said = {"to": "bob", "files": [kept["id"]]}
        first, second = [(await ada.post("/messages", json=said)).json()["id"] for _ in range(2)]
        assert (await ada.delete(f"/messages/{first}")).is_success
        third = (await ada.post("/messages", json=said)).json()["id"]  # it can still be sent
        for id in (second, third):
            assert holds(kept["root"], len(DATA))
            assert (await ada.delete(f"/messages/{id}")).is_success
        async with within(60, "the end of content that no message names"):
            while holds(kept["root"], len(DATA)):
                await asyncio.sleep(0.01)  # poll: the store tells nobody
        assert refused(await ada.post("/messages", json=said)) == (404, "unknown_upload")


async def test_a_deleted_message_leaves_an_upload_of_the_same_bytes_that_was_not_sent(people: Served) -> None:
    async with people.client("ada") as ada:
        one, other = [
            (await ada.post("/files", params={"filename": "a.png"}, content=DATA)).json()["id"] for _ in range(2)
        ]
        id = (await ada.post("/messages", json={"to": "bob", "files": [one]})).json()["id"]
        assert (await ada.delete(f"/messages/{id}")).is_success
        account = people.account("ada")
        async with within(60, "the end of the upload that was sent"):
            with pytest.raises(Exception, match="you have no upload"):  # noqa: PT012
                while people.gateway.uploads.find(account, [one]):
                    await asyncio.sleep(0.01)  # poll: an upload tells nobody
        assert (await ada.post("/messages", json={"to": "bob", "files": [other]})).is_success


async def in_the_room(http: httpx.AsyncClient, count: int = 1) -> list[dict[str, Any]]:
    """Return the messages of the room once there are so many."""
    async with within(60, "the message at the gateway"):
        while len(found := (await http.get("/messages?conversation=room")).json()) < count:
            await asyncio.sleep(0.01)  # poll: a gateway is asked
    return list(found)


async def test_a_file_that_is_not_here_is_fetched_when_it_is_wanted(home: Path) -> None:
    by_hand = Settings(auto_fetch_bytes=0)
    async with serving(WebSettings(max_file_bytes=len(DATA)), peer_settings=by_hand) as served:
        await served.register("ada")
        async with TCPPeer(data=home / "terry", name="terry") as terry, served.client("ada") as ada:
            assert await terry.connect(served.peer.port)
            await terry.send("room", "", files=[("a.bin", DATA), ("b.bin", DATA + b"x")])
            found = await in_the_room(ada)
            id = found[0]["id"]
            assert [file["here"] for file in found[0]["files"]] == [False, False]
            whole = await ada.get(f"/files/{id}/0", params={"wait": 60})
            assert (whole.status_code, whole.content) == (200, DATA)
            assert refused(await ada.get(f"/files/{id}/1")) == (413, "too_large")
            await terry.send("room", "later", files=[("c.bin", DATA[::-1])])
            found = await in_the_room(ada, 2)
        id = found[1]["id"]
        async with served.client("ada") as ada:  # nobody who has it is linked
            waits = await ada.get(f"/files/{id}/0")
            assert (waits.status_code, waits.headers["retry-after"]) == (202, "2")
            assert waits.json() == {"status": "fetching", "stored": 0, "size": len(DATA)}
            asking = asyncio.create_task(ada.get(f"/files/{id}/0", params={"wait": 60}))
            async with TCPPeer(data=home / "terry", name="terry") as terry:
                assert await terry.connect(served.peer.port)
                assert (await asking).content == DATA[::-1]
            assert (await ada.delete(f"/files/{id}/0")).status_code == 204


async def test_who_stops_waiting_for_a_file_ends_the_requests_for_it(home: Path) -> None:
    async with serving(peer_settings=Settings(auto_fetch_bytes=0)) as served:
        await served.register("ada")
        async with TCPPeer(data=home / "una", name="una") as una, served.client("ada") as ada:
            assert await una.connect(served.peer.port)
            await una.send("room", "", files=[("a.bin", DATA)])
            found = await in_the_room(ada)
        id = found[0]["id"]
        async with served.client("ada") as ada:
            asking = asyncio.create_task(ada.get(f"/files/{id}/0", params={"wait": 60}))
            async with within(60, "the request"):
                while (await ada.delete(f"/files/{id}/0")).status_code == 204 and not asking.done():
                    await asyncio.sleep(0.01)  # poll: a gateway is asked
            assert (await asking).status_code == 202


async def uploaded(served: Served, by: str) -> str:
    async with served.client(by) as http:
        id: str = (await http.post("/files", params={"filename": "a.png"}, content=b"x")).json()["id"]
        return id


async def test_sockets_send_files_and_tell_of_those_that_come(people: Served, home: Path) -> None:
    id = await uploaded(people, "ada")
    async with (
        chatting(people, "bob", "?events=files") as bob,
        chatting(people, "ada") as ada,
        calling(people, "ada") as lines,
        calling(people, "eve") as eve,
        talking(people, "ada") as io,
        talking(people, "eve") as heard,
    ):
        await ada.say({"to": "bob", "files": [id], "key": "k", "ref": 1})
        first = await ada.answer()
        assert first["status"] == "ok" and (await bob.message())["files"][0]["name"] == "a.png"
        await ada.say({"to": "bob", "files": [id], "key": "k"})
        assert (await ada.answer())["id"] == first["id"]
        for wrong, code in (({"files": "x"}, "malformed"), ({"files": [1]}, "malformed"), ({"files": ["/etc/passwd"]},
                            "unknown_upload"), ({"files": []}, "malformed")):  # fmt: skip
            await ada.say(wrong)
            assert (await ada.answer())["code"] == code, wrong
        await lines.say(do="send", to="bob", files=[id], ref="f")
        assert (await lines.next("sent", ref="f"))["files"][0]["here"] is True
        assert (await bob.message())["content"] == ""
        for files in (["/etc/passwd"], [id]):  # eve did not upload it
            await eve.say(do="send", files=files, ref="g")
            assert (await eve.next("error", ref="g"))["code"] == "unknown_upload"
        await eve.say(do="send", to="bob", ref="h")
        assert (await eve.next("error", ref="h"))["text"] == "'send' needs `text`"
        assert (await io.say("groupMessage", {"to": "room", "files": [id]}))["status"] == "ok"
        assert (await heard.hear("newMessage"))["files"][0]["size"] == 1
        assert (await io.say("privateMessage", {"to": "bob", "files": [7]}))["code"] == "malformed"
        assert (await io.say("privateMessage", {"to": "bob", "files": ["x"]}))["code"] == "unknown_upload"
        assert (await bob.message())["files"]
        large = DATA * 16  # comes in several requests: of what comes at once only the arrival is told
        async with TCPPeer(data=home / "cy", name="cy") as cy:
            assert await cy.connect(people.peer.port)
            await cy.send("room", "", files=[("a.bin", large)])
            id = (await bob.message())["id"]
            async with people.client("bob") as http:
                assert (await http.get(f"/files/{id}/0", params={"wait": 60})).content == large
        arrived = await bob.next("file_arrived")
        assert (arrived["id"], arrived["name"], arrived["size"]) == (id, "a.bin", len(large))
        progress = await bob.next("file_progress")
        assert progress["id"] == id and 0 <= progress["stored"] <= len(large)
        assert (await lines.next("file_arrived"))["root"] == arrived["root"]
        here = await heard.hear("fileStatus", lambda payload: payload["here"])
        assert here == {"messageId": id, "name": "a.bin", "root": arrived["root"], "size": len(large),
                        "stored": len(large), "here": True}  # fmt: skip


async def test_a_writer_at_a_gateway_is_told_who_has_the_file(people: Served, home: Path) -> None:
    async with (
        TCPPeer(data=home / "cy", name="cy") as cy,
        chatting(people, "ada", "?events=files") as ada,
        calling(people, "ada") as lines,
        talking(people, "ada") as io,
    ):
        assert await cy.connect(people.peer.port)
        found = people.account("ada")
        await cy.wait_user(found.user.me.id, 60)  # others of that name were here
        id = await sent(people, ("a.png", "image/png", DATA), to="cy")
        told = await ada.next("file_receipt")
        assert {**told, "root": ""} == {
            "type": "file_receipt", "id": id, "name": "a.png", "size": len(DATA), "root": "", "user": "cy",
            "has": True, "count": 1, "of": 1,
        }  # fmt: skip
        line = await lines.next("file_receipt")
        assert (line["id"], line["user"], line["has"], line["count"], line["of"]) == (id, "cy", True, 1, 1)
        heard = await io.hear("fileReceipt")
        assert (heard["messageId"], heard["user"], heard["has"], heard["count"]) == (id, "cy", True, 1)
        async with people.client("ada") as http:
            receipt = (await http.get(f"/messages/{id}/receipt")).json()
            assert receipt["files_delivered_to"] == ["cy"]
        message = await cy.message(id)
        await message.attachments[0].forget()
        assert (await ada.next("file_receipt"))["has"] is False


def test_ranges_and_names_are_parsed_as_the_standards_say() -> None:
    assert range_of("bytes=0-", 0) == (0, 0) and range_of("", 5) is None and range_of("Bytes=1-2 ", 5) == (1, 3)
    assert (
        disposition("inline", 'a "b" %.png')
        == "inline; filename=\"a _b_ _.png\"; filename*=UTF-8''a%20%22b%22%20%25.png"
    )
