"""Health, metrics and the audit log."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from p2pchat import PeerClosed, StorageError, TCPPeer
from p2pchat.peer_metrics import HealthCheck
from p2pchat.storage.sql_storage import SqlStorage
from p2pchat.web import Pace, WebSettings, create_app
from tests.web.chat_client import chatting
from tests.web.conftest import Served, serving


async def test_it_is_healthy_and_ready_until_it_stops(served: Served) -> None:
    async with served.client() as http:
        assert (await http.get("/healthz")).json() == {"status": "ok"}
        assert (await http.get("/readyz")).status_code == 200
        for path in ("/healthz", "/readyz", "/metrics"):
            head = await http.head(path)
            assert (head.status_code, head.content) == (200, b"")
        await served.gateway.aclose()
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.json()["code"]) == (503, "stopping")


async def test_it_is_not_ready_once_its_peer_has_stopped(served: Served) -> None:
    account, _ = await served.gateway.accounts.register("zoe")
    ended = asyncio.Event()
    served.gateway.hub.open(account, lambda told: None, "chat", lambda why: ended.set())
    await served.peer.aclose()
    await asyncio.wait_for(ended.wait(), 60)
    async with served.client() as http:
        assert (await http.get("/readyz")).status_code == 503


def test_an_application_needs_a_started_peer() -> None:
    with pytest.raises(PeerClosed):
        create_app(TCPPeer(db="memory://"))


async def test_a_failing_disk_is_unhealthy_until_it_works_again(monkeypatch: pytest.MonkeyPatch) -> None:
    works = True
    commit = SqlStorage.commit

    def commit_or_not(self: SqlStorage, changes: Any) -> None:
        if not works:
            raise StorageError("the disk is gone")
        commit(self, changes)

    monkeypatch.setattr(SqlStorage, "commit", commit_or_not)  # simulates a failing disk
    now = 100.0
    async with TCPPeer(db="memory://", name="gate") as peer:
        monkeypatch.setattr("p2pchat.peer_metrics.monotonic", lambda: now)
        health = HealthCheck(peer)
        assert await health.check() == ""
        works = False
        now += 3.0
        assert await health.check() == "the disk is gone"
        works = True
        now += 1.0
        assert await health.check() == "the disk is gone"  # checked again only after some time
        now += 2.0
        assert await health.check() == ""
        await peer.aclose()
        now += 2.0
        assert "closed" in await health.check()
        await health.aclose()


async def test_a_disk_that_does_not_answer_is_unhealthy_after_5_s(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck(TCPPeer):
        answers = True

        async def round_trip(self) -> None:
            if not self.answers:
                await asyncio.Event().wait()
            await super().round_trip()

    now = 100.0
    async with Stuck(db="memory://", name="gate") as peer:
        monkeypatch.setattr("p2pchat.peer_metrics.monotonic", lambda: now)
        health = HealthCheck(peer, every=0.05)
        assert await health.check() == ""
        peer.answers = False
        now += 4.9
        assert await health.check() == ""
        now += 0.2
        assert await health.check() == "storage does not answer"
        await health.aclose()


def numbers(text: str) -> dict[str, float]:
    """Return the samples of an answer of /metrics, by name and labels."""
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_metrics_are_prometheus_text_without_names() -> None:
    async with serving(WebSettings(calls=Pace(0.001, 2))) as served:
        await served.register("zoe")
        account = served.account("zoe")
        served.gateway.hub.open(account, lambda told: None, "chat")
        async with served.client("zoe") as http:
            await http.post("/messages", json={"to": "room", "content": "hello"})
        async with served.client() as http:
            await http.get("/nothing")
            await http.get("/healthz")
            text = (await http.get("/metrics")).text
        found = numbers(text)
        assert found["p2pchat_web_users"] == 1
        assert found["p2pchat_web_sessions chat"] == 1
        assert found["p2pchat_web_messages_in_total rest"] == found["p2pchat_web_accept_seconds_count rest"] == 1
        assert found["p2pchat_web_refused_total not_found"] == 1
        assert found["p2pchat_web_request_seconds_count POST /accounts 2xx"] == 1
        assert found["p2pchat_storage_works"] == 1 and "p2pchat_peer_links" in found
        assert "zoe" not in text
        async with served.client() as http:  # from elsewhere it needs an account
            assert (await http.get("/metrics", headers={"X-Real-IP": "203.0.113.9"})).status_code == 401


async def test_metrics_alone_say_whether_storage_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else asks for the health of this gateway: neither 0 after its start nor 1 while it refuses messages."""
    works = True
    commit = SqlStorage.commit

    def commit_or_not(self: SqlStorage, changes: Any) -> None:
        if not works:
            raise StorageError("the disk is gone")
        commit(self, changes)

    monkeypatch.setattr(SqlStorage, "commit", commit_or_not)  # simulates a failing disk
    async with serving(WebSettings(health_every=0.01)) as served, served.client() as http:
        assert numbers((await http.get("/metrics")).text)["p2pchat_storage_works"] == 1
        works = False
        async with asyncio.timeout(30):
            while numbers((await http.get("/metrics")).text)["p2pchat_storage_works"]:
                await asyncio.sleep(0.02)
        works = True
        async with asyncio.timeout(30):
            while not numbers((await http.get("/metrics")).text)["p2pchat_storage_works"]:
                await asyncio.sleep(0.02)


async def test_two_gateways_in_one_process_count_apart() -> None:
    async with serving() as one, serving() as other:
        await one.register("zoe")
        async with other.client() as http:
            assert numbers((await http.get("/metrics")).text)["p2pchat_web_users"] == 0


async def test_an_audit_log_that_cannot_be_written_costs_nothing_else(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    def full(line: dict[str, Any]) -> None:
        raise OSError(28, "No space left on device")

    served.gateway.audit_log.write = full
    async with chatting(served, "ada") as ada, chatting(served, "bob") as bob:
        await ada.accepted("/dm bob hello")
        assert (await bob.message())["content"] == "hello"
    assert {record.message for record in caplog.records} == {"the audit log could not be written"}


async def test_the_audit_log_contains_no_token_and_no_text(served: Served) -> None:
    lines: list[dict[str, Any]] = []
    served.gateway.audit_log.write = lines.append
    token = await served.register("zoe")
    async with served.client("zoe") as http:
        sent = await http.post("/messages?swordfish=1", json={"to": "room", "content": "swordfish"})
        assert sent.status_code == 201
        await http.get(f"/swordfish/{token}")
    session = served.gateway.hub.open(served.account("zoe"), lambda told: None, "chat")
    served.gateway.hub.close(session)
    text = json.dumps(lines)
    assert token not in text and "swordfish" not in text
    told = [(line["event"], line.get("route") or line.get("state") or line.get("change")) for line in lines]
    assert told == [
        ("account", "registered"), ("request", "/accounts"), ("request", "/messages"), ("request", "other"),
        ("session", "open"), ("session", "closed"),
    ]  # fmt: skip
    assert lines[2]["user"] == "zoe" and lines[2]["status"] == 201
