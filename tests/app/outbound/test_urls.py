"""Hostile URLs and addresses: what may be called, and what is refused before a packet is sent."""

import socket
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from app.domain.errors import UrlRefused
from app.outbound import AllowList, GuardedClient
from app.outbound.allow import is_public
from app.outbound.urls import read

PUBLIC = "93.184.215.14"


def never(host: str, port: int) -> list[str]:
    raise AssertionError(f"{host} was looked up")


def leads_to(*addresses: str) -> Callable[[str, int], list[str]]:
    return lambda _host, _port: list(addresses)


@pytest.mark.case(30)
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file:///etc/passwd", "scheme"),
        ("ftp://example.com/", "scheme"),
        ("gopher://127.0.0.1:6379/_FLUSHALL", "scheme"),
        ("s3://bucket/key", "scheme"),
        ("dict://localhost:11211/stats", "scheme"),
        ("jar:http://example.com!/", "scheme"),
        ("//example.com/", "scheme"),
        ("example.com", "scheme"),
        ("", "scheme"),
        ("http://", "form"),
        ("http:///path", "form"),
        ("http:example.com", "form"),
        ("http://example.com:0/", "form"),
        ("http://example.com:65536/", "form"),
        ("http://example.com:80a/", "form"),
        ("http://exa mple.com/", "form"),
        ("http://example.com/\r\nX-Injected: 1", "form"),
        ("http://example.com\\@127.0.0.1/", "form"),
        ("http://example.com/\x00", "form"),
        ("ht\ntp://example.com/", "form"),
        (" http://example.com/", "form"),
        ("http://[::1/", "form"),
        ("http://::1/", "form"),
        ("http://\ud800.com/", "host"),
        ("http://example.com/\ud800", "form"),
        ("http://example.com/" + "a" * 2048, "form"),
        ("http://user:secret@example.com/", "login"),
        ("http://example.com@127.0.0.1/", "login"),
        ("http://@127.0.0.1/", "login"),
        ("http://2130706433/", "host"),
        ("http://0x7f000001/", "host"),
        ("http://0x7f.0.0.1/", "host"),
        ("http://0177.0.0.1/", "host"),
        ("http://127.1/", "host"),
        ("http://127.0.0.0x1/", "host"),
        ("http://127.0.0.1../", "host"),
        ("http://1.2.3.4.5/", "host"),
        ("http://127.0.0.%31/", "host"),
        ("http://example..com/", "host"),
        ("http://-example.com/", "host"),
        ("http://*.example.com/", "host"),
        ("http://[::1%25lo]/", "host"),
        ("http://[v1.x]/", "host"),
        ("http://①②⑦.1/", "host"),
        ("http://" + "a" * 64 + ".com/", "host"),
        ("http://" + "a." * 127 + "com/", "host"),
    ],
)
def test_what_is_no_plain_url_is_refused(url: str, reason: str) -> None:
    with pytest.raises(UrlRefused) as refusal:
        GuardedClient(resolve=never).check(url)
    assert refusal.value.reason == reason


@pytest.mark.case(30)
@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "127.0.0.1",
        "127.0.0.1.",
        "127.255.255.254",
        "0.0.0.0",  # noqa: S104
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "172.31.255.255",
        "192.0.0.192",
        "192.168.0.1",
        "198.19.0.1",
        "203.0.113.7",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "１２７.０.０.１",
        "127。0。0。1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[::127.0.0.1]",
        "[64:ff9b::10.0.0.1]",
        "[64:ff9b:1::1]",
        "[2002:7f00:1::]",
        "[2002:a00:1::1]",
        "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
        "[2001:db8::1]",
        "[fe80::1]",
        "[fec0::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "[100::1]",
        "[5f00::1]",
    ],
)
def test_addresses_inside_are_refused_in_every_spelling(host: str) -> None:
    with pytest.raises(UrlRefused) as refusal:
        GuardedClient(resolve=never).check(f"http://{host}/latest/meta-data/")
    assert refusal.value.reason == "address"


@pytest.mark.case(30)
@pytest.mark.parametrize("host", ["redis:6379", "localhost", "LOCALHOST.", "gateway:8000"])
def test_machines_next_door_are_refused_unasked(host: str) -> None:
    with pytest.raises(UrlRefused):
        GuardedClient(resolve=never).check(f"http://{host}/")


@pytest.mark.case(30)
@pytest.mark.parametrize(
    "answers", [["10.0.0.1"], ["::1"], [PUBLIC, "192.168.1.1"], ["fe80::1%eth0"], ["::ffff:127.0.0.1"], []]
)
def test_a_name_is_refused_if_any_of_its_addresses_is_inside(answers: list[str]) -> None:
    with pytest.raises(UrlRefused) as refusal:
        GuardedClient(resolve=leads_to(*answers)).check("https://hooks.example.com/")
    assert refusal.value.reason == "address"


def test_what_is_said_does_not_tell_an_unknown_name_from_one_inside() -> None:
    def unknown(_host: str, _port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    said = []
    for resolve in (unknown, leads_to("10.0.0.1")):
        with pytest.raises(UrlRefused) as refusal:
            GuardedClient(resolve=resolve).check("http://db.corp.example/")
        said.append((str(refusal.value), refusal.value.extensions()))
    assert said[0] == said[1]
    assert "10.0.0.1" not in said[0][0]


def test_a_name_that_cannot_be_looked_up_just_now_passes_the_first_check() -> None:
    def away(_host: str, _port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    assert GuardedClient(resolve=away).check("http://hooks.example.com") == "http://hooks.example.com/"


def test_without_names_of_the_outside_what_needs_no_look_up_is_refused_nevertheless() -> None:
    client = GuardedClient(resolve=never, early=False)
    assert client.check("http://hooks.example.com") == "http://hooks.example.com/"
    for url in ("http://10.0.0.1/", "http://redis:6379/", "http://[::1]/", "file:///x"):
        with pytest.raises(UrlRefused):
            client.check(url)


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("https://hooks.example.com", "https://hooks.example.com/"),
        ("HTTPS://Hooks.Example.COM.:443/a//b?q=1&r=%20#part", "https://hooks.example.com/a//b?q=1&r=%20"),
        ("http://example.com:8080/ü?ä=ö", "http://example.com:8080/%C3%BC?%C3%A4=%C3%B6"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("https://my_bucket.s3.example.com/x", "https://my_bucket.s3.example.com/x"),
        (f"http://{PUBLIC}/", f"http://{PUBLIC}/"),
        ("https://[2606:2800:21F:0:0::1]:8443/", "https://[2606:2800:21f::1]:8443/"),
        ("https://[64:ff9b::93.184.215.14]/", "https://[64:ff9b::5db8:d70e]/"),
    ],
)
def test_plain_urls_of_the_open_internet_are_taken(url: str, plain: str) -> None:
    assert GuardedClient(resolve=leads_to(PUBLIC)).check(url) == plain


@pytest.mark.parametrize(
    ("port", "taken"), [(22, False), (25, False), (80, True), (443, True), (1023, False), (8443, True)]
)
def test_ports_of_other_services_are_closed(port: int, taken: bool) -> None:
    client = GuardedClient(resolve=leads_to(PUBLIC))
    if taken:
        client.check(f"http://example.com:{port}/")
    else:
        with pytest.raises(UrlRefused):
            client.check(f"http://example.com:{port}/")


@pytest.mark.case(30)
@pytest.mark.parametrize(
    ("entry", "url", "address", "taken"),
    [
        ("receiver", "http://receiver/", "172.18.0.5", True),
        ("receiver", "http://receiver:6379/", "172.18.0.5", True),
        ("receiver:8080", "http://receiver:8080/", "172.18.0.5", True),
        ("receiver:8080", "http://receiver:6379/", "172.18.0.5", False),
        ("Receiver.LAN.", "http://receiver.lan/", "192.168.0.9", True),
        ("receiver.lan", "http://other.lan/", "192.168.0.9", False),
        ("receiver.lan", "http://receiver.lan/", "169.254.169.254", False),
        ("receiver.lan", "http://receiver.lan/", "::ffff:169.254.169.254", False),
        ("169.254.0.0/16", "http://receiver.lan/", "169.254.7.7", True),
        ("172.18.0.0/16", "http://receiver:8000/", "172.18.0.5", True),
        ("172.18.0.0/16", "http://receiver:8000/", "172.19.0.5", False),
        ("172.18.0.0/16", "http://receiver:8000/", PUBLIC, False),
        ("172.18.0.0/16", "http://receiver.lan/", "::ffff:172.18.0.5", True),
        ("127.0.0.1", "http://127.0.0.1:22/", "", True),
        ("127.0.0.1:9000", "http://127.0.0.1:9000/", "", True),
        ("127.0.0.1:9000", "http://127.0.0.1:9001/", "", False),
        ("[::1]:9000", "http://[::1]:9000/", "", True),
        ("::1", "http://[::1]:9000/", "", True),
        ("smtp.example.com:25", "http://smtp.example.com:25/", PUBLIC, True),
    ],
)
def test_the_operator_opens_what_is_named_and_nothing_else(entry: str, url: str, address: str, taken: bool) -> None:
    client = GuardedClient(AllowList.of(f" other.example , {entry}"), resolve=leads_to(address))
    if taken:
        client.check(url)
    else:
        with pytest.raises(UrlRefused):
            client.check(url)


@pytest.mark.parametrize(
    "entry", ["http://a", "a:b", "a:0", "a:65536", "10.0.0.1/8", "10.0.0.0/33", "[::1", "a b", "1.2"]
)
def test_an_entry_that_means_nothing_is_said(entry: str) -> None:
    with pytest.raises(ValueError, match="is not a host"):
        AllowList.of(entry)


def test_nothing_is_open_by_default() -> None:
    for allowed in (AllowList(), AllowList.of(""), AllowList.of(" , ")):
        assert not allowed.permits("localhost", 80, ip_address("127.0.0.1"))


@pytest.mark.parametrize("address", ["8.8.8.8", "100.63.255.255", "100.128.0.0", "172.32.0.1", "2a00:1450:4001::1"])
def test_neighbours_of_closed_networks_are_public(address: str) -> None:
    assert is_public(ip_address(address))


def test_a_target_says_itself_as_the_host_header_has_it() -> None:
    assert read("http://example.com:443/").authority == "example.com:443"
    assert read("https://example.com:443/").authority == "example.com"
    assert read("https://[2606:2800::1]/").authority == "[2606:2800::1]"
