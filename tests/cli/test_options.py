"""Command lines: options, arguments, variables, help and usage errors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click
import pytest

from p2pchat.addresses import is_loopback, parse_endpoint
from p2pchat.cli.chat_startup import ChatOptions
from p2pchat.cli.options import ProfileChoice, parse_time
from p2pchat.cli.program import COMMANDS, chat, program, run
from p2pchat.commands.exit_codes import UsageError
from tests.cli.parsing import parse, parse_chat

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("8080", {"port": 8080}),
        ("0 --temp", {"port": 0, "temp": True}),
        ("8081 localhost:8080", {"port": 8081, "endpoints": ("localhost:8080",)}),
        ("8081 8080 8082", {"port": 8081, "endpoints": ("127.0.0.1:8080", "127.0.0.1:8082")}),
        ("8081 [::1]:8080", {"port": 8081, "endpoints": ("[::1]:8080",)}),
        ("8080 --name=ada --host 0.0.0.0", {"port": 8080, "name": "ada", "host": "0.0.0.0"}),
        ("8080 --data d --key k --log l", {"port": 8080, "data": "d", "key": "k", "log": "l"}),
        ("8080 --json --stay --drain 0.5", {"port": 8080, "as_json": True, "stay": True, "drain": 0.5}),
        (
            "0 --network LAB --advertise h:1 -v",
            {"network": "lab", "advertise": "h:1", "verbose": True},
        ),
        ("0 --network lab --discover", {"port": 0, "network": "lab", "discover": True, "host": "0.0.0.0"}),
        ("0 --network lab --discover --host ::1", {"port": 0, "network": "lab", "discover": True, "host": "::1"}),
        ("8080 --plain --invite f", {"plain": True, "port": 8080, "invite": "f"}),
    ],
)
def test_a_command_line_means(line: str, meant: dict[str, Any]) -> None:
    assert parse_chat(line.split()) == ChatOptions(**meant)


def test_a_variable_sets_the_port_of_the_chat_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PCHAT_PORT", "8081")
    assert parse_chat([]) == parse_chat(["8081"])
    assert not parse_chat([], may_ask=True).bare
    assert parse_chat(["8082", "8080"]) == ChatOptions(port=8082, endpoints=("127.0.0.1:8080",))


def test_a_variable_that_a_cluster_sets_for_a_service_is_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes sets it in every container for a service with our name."""
    monkeypatch.setenv("P2PCHAT_PORT", "tcp://10.0.0.1:80")
    assert parse_chat([], may_ask=True).bare
    assert parse_chat(["8082", "8080"]) == ChatOptions(port=8082, endpoints=("127.0.0.1:8080",))
    assert parse("history")["profile"] == ProfileChoice()
    monkeypatch.delenv("P2PCHAT_PORT")
    with pytest.raises(UsageError, match="is not a valid port"):
        parse_chat(["tcp://10.0.0.1:80"])


OF_PEERS = "Invalid value for '[HOST:PORT]...': "


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", "missing PORT"),
        ("--name ada", "missing PORT"),
        ("8080 localhost", f"{OF_PEERS}'localhost' is not HOST:PORT, as localhost:8080 or [::1]:8080"),
        ("8080 :8081", f"{OF_PEERS}':8081' is not HOST:PORT"),
        ("0 0", f"{OF_PEERS}'127.0.0.1:0': a port is a number from 1 to 65535"),
        ("8080 localhost:99999", f"{OF_PEERS}'localhost:99999': a port is a number from 1 to 65535"),
        ("8080 99999", f"{OF_PEERS}'127.0.0.1:99999': a port is a number from 1 to 65535"),
        ("8080 ::1:8080", f"{OF_PEERS}'::1:8080' is not HOST:PORT, as localhost:8080 or [::1]:8080"),
        ("8080 [::g]:1", f"{OF_PEERS}'[::g]:1': between brackets stands an IPv6 address"),
        ("8080 http://x:1", f"{OF_PEERS}'http://x:1' is not HOST:PORT, as localhost:8080"),
        ("8080 --name=", "--name is empty: give it a value, or leave it out"),
        ("65536", "'65536' is not a port"),
        ("eighty", "'eighty' is neither a port nor a command"),
        ("bob hi there", "'bob' is neither a port nor a command: to write to bob: p2pchat send bob hi there"),
        (
            "demi hi",
            "'demi' is neither a port nor a command: did you mean demo? to write to demi: p2pchat send demi hi",
        ),
        ("sned bob hi", "'sned' is neither a port nor a command: did you mean send?"),
        ("8080 --nmea ada", "No such option '--nmea'. Did you mean '--name'?"),
        ("web token -rf", "No such option '-r': put -- before a name or text that begins with a dash"),
        ("8080 --name", "Option '--name' requires an argument"),
        ("8080 --drain soon", "Invalid value for '--drain': 'soon' is not a number of seconds"),
        ("8080 --drain nan", "Invalid value for '--drain': 'nan' is not a number of seconds"),
        ("8080 --db oracle+thin://h/d", "there are no 'oracle+thin' databases here: write sqlite:"),
        ("8080 --temp --data d", "--temp and --data exclude each other"),
        ("8080 --json --plain", "--json and --plain exclude each other"),
        ("8080 --network lab --invite f", "--network and --invite exclude each other"),
        ("8080 --network p2pchat:abc", "Invalid value for '--network': this is an invite and no name of a network"),
        ("8080 --advertise h", "Invalid value for '--advertise': 'h' is not HOST:PORT"),
    ],
)
def test_usage_errors_of_a_chat(line: str, expected: str) -> None:
    with pytest.raises(UsageError) as error:
        run(line.split())
    assert str(error.value).startswith(expected)
    assert "\n" not in str(error.value)


NUMBERS = ("drain", "advertise")  # and an endpoint


def test_each_option_has_a_variable_and_the_command_line_overrides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for option in chat.params:
        if isinstance(option, click.Option) and not option.is_flag and option.name not in NUMBERS:
            assert isinstance(option.envvar, str)
            monkeypatch.setenv(option.envvar, f"from-{option.name}")
    given = {"DRAIN": "7", "ADVERTISE": "h:1", "STAY": "1", "JSON": "true", "VERBOSE": "yes"}
    for name, value in {**given, "TRACE_TEXTS": "1"}.items():
        monkeypatch.setenv(f"P2PCHAT_{name}", value)
    for name in ("HOST", "NETWORK"):
        monkeypatch.setenv(f"P2PCHAT_{name}", "")  # the same as not set; an invite excludes a network
    options = parse_chat(["8080", "--name", "ada"])
    assert options.name == "ada"
    assert (options.host, options.data, options.db) == ("127.0.0.1", "from-data", "from-db")
    assert (options.key, options.invite, options.log) == ("from-key", "from-invite", "from-log")
    assert (options.drain, options.advertise) == (7.0, "h:1")
    assert (options.trace, options.trace_texts) == ("from-trace", True)
    assert (options.stay, options.as_json, options.verbose) == (True, True, True)


def test_secrets_on_the_command_line_get_a_warning_and_in_variables_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parse_chat(["8080", "--invite", "P2PCHAT:ABC@h:1"])
    assert "P2PCHAT_INVITE" in capsys.readouterr().err
    parse_chat(["8080", "--db", "sqlite://me:secret@host/db"])
    assert "P2PCHAT_DB" in capsys.readouterr().err
    parse_chat(["8080", "--invite", "file", "--db", "sqlite:///x@y"])
    monkeypatch.setenv("P2PCHAT_INVITE", "p2pchat:abc@h:1")
    options = parse_chat(["8080"])
    assert (options.invite, capsys.readouterr().err) == ("p2pchat:abc@h:1", "")
    assert "p2pchat:abc" not in repr(options)


@pytest.mark.parametrize(
    ("line", "first"),
    [
        ("8080 --name ada", "8080"),
        ("--name ada 8080", "8080"),
        ("--name=ada history", "history"),
        ("--json history", "history"),
        ("-v --data x check a", "check"),
        ("--limit 5 history", "history"),
        ("--http-host h web", "web"),
        ("--json", ""),
        ("--help", ""),
        ("-- history", ""),
    ],
)
def test_the_first_word_is_not_the_value_of_an_option(line: str, first: str) -> None:
    assert program.split(line.split())[0] == first


@pytest.mark.parametrize("typed", ["8" * 5000, "localhost:" + "8" * 5000])
def test_a_port_of_many_digits_is_refused(typed: str) -> None:
    """Python converts no number of more than 4,300 digits."""
    with pytest.raises(ValueError):
        parse_endpoint(typed)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("a.example", False)],
)
def test_loopback_is_this_machine_only(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_history_takes_a_conversation_and_times() -> None:
    before = datetime.now(UTC)
    values = parse("history", "bob", "--limit", "5", "--since", "90m", "--before", "2026-11-20T11:00Z")
    assert (values["to"], values["limit"], values["profile"]) == ("bob", 5, ProfileChoice())
    assert before <= values["since"] + timedelta(minutes=90) <= datetime.now(UTC)
    assert values["before"] == datetime(2026, 11, 20, 11, 0, tzinfo=UTC)
    values = parse("history", "--port", "8080", "--search", "two words", "--json")
    assert (values["profile"].port, values["search"], values["as_json"]) == (8080, "two words", True)


def test_a_time_is_a_date_or_so_long_ago() -> None:
    assert parse_time("90m", NOW) == datetime(2026, 11, 20, 10, 30, tzinfo=UTC)
    assert parse_time("99999999999999d", NOW) == datetime.min.replace(tzinfo=UTC)
    with pytest.raises(ValueError, match="'soon' is not a time"):
        parse_time("soon", NOW)


@pytest.mark.parametrize(
    "line", ["--limit 0", "--limit x", "--since soon", "a b", "--port x", "--since 99999999999999d -x", "--search="]
)
def test_usage_errors_of_history(line: str) -> None:
    with pytest.raises(UsageError):
        parse("history", *line.split())


def test_options_may_come_before_the_command() -> None:
    assert parse("--port", "8080", "history", "bob") == parse("history", "bob", "--port", "8080")
    assert parse("--json", "web", "--port", "8001", "users") == parse("web", "users", "--port", "8001", "--json")


def test_help_names_every_option_and_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    page = capsys.readouterr().out
    assert all(f"\n  {', '.join(option.opts)}" in page for option in chat.params if isinstance(option, click.Option))
    assert all(f"\n  {name}" in page for name in COMMANDS)


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_has_examples_and_fits_the_terminal_without_breaking_a_word(
    command: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert run([*command.split(), "--help"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("Usage: p2pchat") and "\nExample" in page
    assert max(len(line) for line in page.splitlines()) <= columns
    monkeypatch.setenv("COLUMNS", "200")
    assert run([*command.split(), "--help"]) == 0
    assert sorted(page.split()) == sorted(capsys.readouterr().out.split())
