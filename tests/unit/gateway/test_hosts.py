"""Under which names a server is asked that listens for its own machine only, and that no other one is told anything."""

import pytest

from localmodel.gateway import errors
from localmodel.gateway.hosts import Hosts

OWN = (
    "localhost", "LocalHost:8080", "localhost.:8080", "qwen.localhost", "a.b.LOCALHOST:1", "127.0.0.1", "127.0.0.1:8080",
    "127.1.2.3:", "[::1]", "[::1]:8080", "[0:0:0:0:0:0:0:1]:80", "[::ffff:127.0.0.1]:80",
)  # fmt: skip
OTHERS = (
    "", ":8080", "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example:80", "notlocalhost",
    "10.0.0.7", "0.0.0.0:8080", "[::]", "[::2]:80", "[::ffff:10.0.0.7]", "::1", "[::1", "[::1]x", "[localhost]",
    "localhost:80:80", "localhost:x", "127.0.0.256", "127.1", "user@localhost", "localhost, evil.example",
)  # fmt: skip
LOOPBACK = ("127.0.0.1", "127.0.0.53", "::1", "localhost")


def refused(hosts: Hosts, host: str | None) -> int:
    try:
        hosts.check(host)
    except errors.ApiError as error:
        assert "localhost" in error.message and "spec.gateway.auth" in error.message, "what to do"
        assert error.code == "misdirected_request" and error.headers() == {"x-should-retry": "false"}
        return error.status
    return 0


@pytest.mark.parametrize("listens_on", LOOPBACK)
@pytest.mark.parametrize("host", [*OWN, None])
def test_a_name_that_leads_nowhere_else_is_answered(listens_on: str, host: str | None) -> None:
    """None is sent by no browser."""
    assert refused(Hosts(listens_on, keyed=False), host) == 0


@pytest.mark.parametrize("listens_on", LOOPBACK)
@pytest.mark.parametrize("host", OTHERS)
def test_a_name_that_may_have_been_led_here_is_not(listens_on: str, host: str) -> None:
    assert refused(Hosts(listens_on, keyed=False), host) == 421


@pytest.mark.parametrize("host", [*OWN, *OTHERS, None])
@pytest.mark.parametrize(
    ("listens_on", "keyed"),
    [
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("10.0.0.7", False),
        ("model.example", False),
        ("127.0.0.1", True),
        ("0.0.0.0", True),
    ],
)
def test_in_a_cluster_or_with_keys_every_name_is_answered(listens_on: str, keyed: bool, host: str | None) -> None:
    assert refused(Hosts(listens_on, keyed=keyed), host) == 0
