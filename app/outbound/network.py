"""Looks names up once, and connects to nothing but the addresses that were checked."""

import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address
from typing import Any

import httpcore

from app.domain.errors import UrlRefused
from app.outbound.allow import AllowList
from app.outbound.budget import Budget, FetchFailed
from app.outbound.urls import Address, Target

Resolver = Callable[[str, int], Iterable[str]]
"""From a host's name and a port to its addresses; raises ``socket.gaierror``."""

_MOST = 4  # addresses of one name that are tried
_LOOK_UPS = threading.BoundedSemaphore(64)  # threads that wait for names; the system gives up on each by itself
_UNKNOWN = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


def system_resolver(host: str, port: int) -> list[str]:
    """Ask the operating system for a name's addresses."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def addresses_of(target: Target, allowed: AllowList, resolve: Resolver, budget: Budget) -> list[Address]:
    """Return the addresses that a target leads to, all of which may be called.

    One that may not spoils all: a name with public and private addresses is one that wants to be tried again.

    Raises:
        UrlRefused: If an address may not be called, or there is none. Which of the two is not said: it would tell
            strangers what names there are inside.
        FetchFailed: If the name cannot be looked up just now.
    """
    if target.address is not None:
        found: list[Address] = [target.address]
    elif "." not in target.host and not allowed.knows(target.host, target.port):
        raise UrlRefused("address")  # names of machines next door, such as redis
    else:
        found = [ip_address(text) for text in dict.fromkeys(_look_up(target, resolve, budget))]
    if not found or not all(allowed.permits(target.host, target.port, address) for address in found):
        raise UrlRefused("address")
    return found[:_MOST]


def _look_up(target: Target, resolve: Resolver, budget: Budget) -> Sequence[str]:
    # A look-up cannot be interrupted, so it has a thread of its own, which nobody waits for at the end.
    answers: queue.SimpleQueue[Sequence[str] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(list(resolve(target.host, target.port)))
        except Exception as error:  # noqa: BLE001  (handed over to whoever asked)
            answers.put(error)
        finally:
            _LOOK_UPS.release()

    if not _LOOK_UPS.acquire(timeout=budget.left_s(budget.limits.connect_s)):
        raise FetchFailed("lookup", "The host's name cannot be looked up just now.")
    threading.Thread(target=ask, name="look-up", daemon=True).start()
    try:
        answer = answers.get(timeout=budget.left_s(budget.limits.connect_s))
    except queue.Empty:
        raise FetchFailed("lookup", "The host's name could not be looked up in time.") from None
    if isinstance(answer, socket.gaierror) and answer.errno in _UNKNOWN:
        return ()
    if isinstance(answer, OSError | UnicodeError):
        raise FetchFailed("lookup", "The host's name cannot be looked up just now.")
    if isinstance(answer, Exception):
        raise answer
    return answer


class PinnedBackend(httpcore.NetworkBackend):
    """Connects to given addresses, whatever the name says by now."""

    def __init__(self, addresses: Sequence[Address], budget: Budget) -> None:
        self._addresses = addresses
        self._budget = budget

    def connect_tcp(
        self,
        host: str,  # noqa: ARG002  (the name was looked up already)
        port: int,
        timeout: float | None = None,  # noqa: ARG002  (the budget knows better)
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        """Connect to the first address that answers.

        Raises:
            FetchFailed: If none does.
        """
        for address in self._addresses:
            wait_s = self._budget.left_s(self._budget.limits.connect_s)
            try:
                connected = socket.create_connection((str(address), port), wait_s)
            except OSError:
                continue
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return _Stream(connected, self._budget)
        raise FetchFailed("connect", "The host does not take connections at this port.")


class _Stream(httpcore.NetworkStream):
    """A connection each of whose waits comes out of one budget."""

    def __init__(self, connected: socket.socket, budget: Budget) -> None:
        self._socket = connected
        self._budget = budget

    def _wait(self) -> None:
        self._socket.settimeout(self._budget.left_s(self._budget.limits.idle_s))

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        self._wait()
        try:
            found = self._socket.recv(max_bytes)
        except TimeoutError:
            raise self._budget.too_slow() from None
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error
        self._budget.receive(len(found))
        return found

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        rest = memoryview(buffer)
        while rest:
            self._wait()
            try:
                rest = rest[self._socket.send(rest) :]
            except TimeoutError:
                raise self._budget.too_slow() from None
            except OSError as error:
                raise httpcore.WriteError(str(error)) from error

    def close(self) -> None:
        self._socket.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        try:
            self._wait()
            secured = ssl_context.wrap_socket(self._socket, server_hostname=server_hostname)
        except TimeoutError:
            self.close()
            raise self._budget.too_slow() from None
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise FetchFailed("tls", f"The host's certificate is not good: {error.verify_message}") from None
        except OSError:
            self.close()
            raise FetchFailed("tls", "The host does not speak TLS as it should.") from None
        except BaseException:
            self.close()
            raise
        return _Stream(secured, self._budget)

    def get_extra_info(self, info: str) -> Any:
        return self._socket if info in {"socket", "ssl_object"} and isinstance(self._socket, ssl.SSLSocket) else None
