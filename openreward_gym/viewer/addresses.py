"""Addresses under which a server that listens on a host can be opened."""

from __future__ import annotations

import ipaddress
import socket


def is_loopback(host: str) -> bool:
    """Return whether a server bound to `host` can be reached by this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def reachable_hosts(host: str) -> list[str]:
    """Return the hosts by which a server bound to `host` is opened: this machine's addresses where it listens on all of them.

    The first one is for browsers on this machine.

    Example:
        >>> reachable_hosts("192.0.2.7"), reachable_hosts("0.0.0.0")[0]
        (['192.0.2.7'], '127.0.0.1')
    """
    bare = host.strip("[]")
    try:
        is_any = not bare or ipaddress.ip_address(bare).is_unspecified
    except ValueError:
        is_any = False
    if not is_any:
        return [bare]
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    own = _own_address(family) or _own_address(socket.AF_INET) or _name()
    loopback = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    return list(dict.fromkeys([loopback, own]))


def _own_address(family: socket.AddressFamily) -> str:
    """Return the address of the interface that leads out; empty without one. Nothing is sent."""
    outside = "2001:db8::1" if family == socket.AF_INET6 else "192.0.2.1"
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((outside, 9))
            address = str(probe.getsockname()[0])
    except OSError:
        return ""
    return "" if ipaddress.ip_address(address).is_unspecified else address


def _name() -> str:
    return socket.gethostname() or "127.0.0.1"


def address(host: str, port: int, token: str | None = None) -> str:
    """Return the URL of the page.

    Example:
        >>> address("::1", 7860, "abc")
        'http://[::1]:7860/?token=abc'
    """
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/" + (f"?token={token}" if token else "")
