"""Host and Origin are compared exactly, in every spelling."""

from __future__ import annotations

import pytest

from p2pchat.web.security import AllowedOrigins, parse_host, parse_origin


@pytest.mark.parametrize(
    ("host", "scheme", "server", "asked"),
    [
        ("chat.example.org", "https", ("127.0.0.1", 8000), "https://chat.example.org"),
        ("chat.example.org:443", "https", ("127.0.0.1", 8000), "https://chat.example.org"),
        (
            "chat.example.org",
            "http",
            ("127.0.0.1", 8000),
            "https://chat.example.org",
        ),  # https not reported
        ("chat.example.org:8000", "http", ("127.0.0.1", 8000), None),
        ("example.org", "https", ("127.0.0.1", 8000), None),
        ("[2001:db8::1]:8443", "https", ("2001:db8::1", 8443), "https://[2001:db8::1]:8443"),
        ("[2001:0DB8:0::1]:8443", "https", ("2001:db8::1", 8443), "https://[2001:db8::1]:8443"),
        ("[2001:db8::2]:8443", "https", ("2001:db8::1", 8443), None),
        ("[::1]", "http", ("::1", 80), "http://[::1]"),
        ("localhost:81", "http", ("::1", 81), "http://localhost:81"),
        ("localhost:81", "http", ("192.168.1.5", 81), None),
        ("192.168.1.5:81", "http", ("::ffff:192.168.1.5", 81), "http://192.168.1.5:81"),
        ("192.168.1.5:81", "http", ("/run/gate.sock", None), None),
        ("[fe80::1%25eth0]:80", "http", ("fe80::1%eth0", 80), None),
    ],
)
def test_the_origin_a_request_was_sent_to(
    host: str, scheme: str, server: tuple[str, int | None], asked: str | None
) -> None:
    found = AllowedOrigins(["https://chat.example.org"]).resolve_host(host, scheme, server)
    assert (None if found is None else str(found)) == asked


def test_behind_a_proxy_the_page_has_the_configured_origin() -> None:
    places = AllowedOrigins(["https://chat.example.org", "https://other.example.org"])
    asked = places.resolve_host("chat.example.org", "http", None)
    assert asked is not None
    assert places.allows("https://chat.example.org", asked, "http")
    assert not places.allows("http://chat.example.org", asked, "http")
    assert not places.allows("https://other.example.org", asked, "http")
    assert not places.allows("https://chat.example.org:8443", asked, "http")


@pytest.mark.parametrize(
    "text", ["chat.example.org", "ftp://a", "https://", "https://a/", "https://a?b", "https://a:b", "https://a:70000",
             "https://a b", "https://[::1", "https://ü.example", "https://user@a", "https://*.example.org"],
)  # fmt: skip
def test_an_invalid_origin_is_refused_as_a_setting(text: str) -> None:
    with pytest.raises(ValueError):
        parse_origin(text)


@pytest.mark.parametrize(
    "host", ["127.1", "0177.0.0.1", "1.2.3", "a..", "-a", "[::1", "::1", "a:0", "a:99999", "a b", "é"]
)
def test_an_invalid_host_is_none(host: str) -> None:
    assert parse_host(host, "http") is None
