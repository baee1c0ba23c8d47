"""Comparison of output with a page: which parts must be equal, and which may differ from run to run."""

from __future__ import annotations

import re

from tests.ports import free_ports

_BLANK = re.compile(r"\s+")
_PORT = re.compile(r"(?<![\w.])80[89]\d(?!\w)")
_INVITE = re.compile(r"p2pchat(?:-device)?:[A-Z2-7]+\.\.\.@")
_DIFFERS = {
    "invite": (_INVITE.pattern, r"(?P<invite>p2pchat:[A-Z2-7]{178}|p2pchat-device:[A-Z2-7]{85})@"),
    "rest": (r"\.\.\.", r".*?"),
    "moment": (r"\d{4}-\d\d-\d\dT[\d:.]+Z", r"\d{4}-\d\d-\d\dT[\d:.]+Z"),
    "date": (r"\b\d{4}-\d\d-\d\d\b", r"\d{4}-\d\d-\d\d"),
    "time": (r"\b\d\d:\d\d\b", r"\d\d:\d\d"),
    "id": (r"\b[A-Z2-7]{52}\b", r"[A-Z2-7]{52}"),
    "label": (r"#[A-Z2-7]{8}\b", r"#[A-Z2-7]{8}"),
    "port": (_PORT.pattern, ""),
}
_TOKEN = re.compile("|".join(f"(?P<{name}>{page})" for name, (page, _) in _DIFFERS.items()))


class Ports:
    """The real port for each port of the page, in one scene, and the invite or code of a device shown last."""

    def __init__(self) -> None:
        self._real: dict[str, str] = {}
        self._invite = ""

    def put(self, command: str) -> str:
        """Return a command with its ports and its invite replaced."""
        if self._invite:
            command = _INVITE.sub(f"{self._invite}@", command)
        return _PORT.sub(lambda match: self._real.get(match[0]) or self._new(match[0]), command)

    def _new(self, port: str) -> str:
        others = set(free_ports(len(self._real) + 1)) - set(self._real.values())
        return self._real.setdefault(port, others.pop())

    def pattern(self, port: str) -> str:
        """Return a pattern for a port in the output. A port not used before is learned by `learn`."""
        return self._real.get(port) or rf"(?P<port_{port}>\d{{2,5}})"

    def learn(self, match: re.Match[str]) -> None:
        """Remember the ports that a program chose, and the invite it showed."""
        learned = match.groupdict()
        self._invite = learned.pop("invite", None) or self._invite
        self._real |= {name[5:]: port for name, port in learned.items()}


def pattern(shown: list[str], ports: Ports) -> str:
    """Return the regular expression (DOTALL) for lines of a page, to be matched with `squeezed` output."""
    text, made, last, seen = "\n".join(shown), "", 0, set[str]()
    for token in _TOKEN.finditer(text):
        made += re.escape(squeezed(text[last : token.start()]))
        last = token.end()
        if token.lastgroup == "port":
            new = ports.pattern(token[0])
            made += f"(?P=port_{token[0]})" if token[0] in seen and new.startswith("(") else new
            seen.add(token[0])
        else:
            made += _DIFFERS[token.lastgroup or ""][1]
    return made + re.escape(squeezed(text[last:]))


def squeezed(text: str) -> str:
    """Return a text without blanks and line ends, because terminals fold lines."""
    return _BLANK.sub("", text)
