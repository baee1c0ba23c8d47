"""p2pchat keeps each rule of the document, dialled by the conformance kit and dialling it."""

from __future__ import annotations

import sys
from itertools import chain
from pathlib import Path

import pytest

from p2pchat_conformance.runner import LEVELS, all_rules
from tests.conformance.candidates import dialled, ended, failures, free_port, listened, names, python_candidate

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to catch")


# The kit makes statements only where it founded the network.
OF_THE_FOUNDER = {
    "bot": {"statements-that-are-shown-count"},
    "peer": {
        "statements-are-told-on", "who-lacks-statements-gets-them", "who-is-removed-is-sent-away",
        "an-admins-removal-counts-with-what-has-no-effect", "canonical-statements-are-kept",
        "statements-of-another-form-are-not-taken", "a-forged-statement-is-not-taken-and-those-beside-it-are",
        "who-named-a-removed-member-is-refused", "a-plain-member-admits-nobody", "an-admin-admits",
        "a-pardon-lets-in-again", "an-admin-pardons-whom-it-removed-alone", "a-removed-guest-is-refused",
        "who-is-kept-stays-when-an-admin-is-removed", "a-log-of-whom-a-former-admin-named-is-not-taken",
        "an-admin-removes-no-admin",
        "who-was-removed-stays-out-after-a-restart", "statements-of-a-new-admin-are-asked-for",
        "statements-begin-a-comparison",
        "a-pardon-takes-back-the-removal-alone", "an-admin-removes-no-guest-of-another",
        "of-an-admin-the-smallest-ids-are-kept", "statements-with-other-fields-have-no-effect",
    },
    "full": {"a-file-has-all-statements", "statements-in-a-file-are-taken"},
}  # fmt: skip


@pytest.mark.parametrize("level", LEVELS)
async def test_p2pchat_keeps_all_rules_when_it_is_dialled(level: str, tmp_path: Path) -> None:
    rules = [rule.name for rule in all_rules() if rule.level == level]
    async with ended(python_candidate(tmp_path, "--port", str(free_port()))) as process:
        results = await dialled(process, tmp_path, level, rules)
    assert failures(results) == []
    assert names(results, "skipped") == OF_THE_FOUNDER.get(level, set())


async def test_p2pchat_keeps_the_rules_of_a_client_when_it_dials(tmp_path: Path) -> None:
    rules = ("the-client-proves-itself", "peers-that-are-named-are-dialled", "the-room-is-answered",
             "what-was-written-before-is-fetched", "a-lost-peer-is-dialled-again", "the-server-checks-the-proof",
             "direct-messages-are-answered", "what-was-acknowledged-survives-a-kill",
             "the-client-shows-its-member", *chain(*OF_THE_FOUNDER.values()))  # fmt: skip
    results = await listened(lambda invite: python_candidate(tmp_path, "--invite", invite), tmp_path, "bot", rules)
    assert failures(results) == []
    assert names(results, "passed") == set(rules)
