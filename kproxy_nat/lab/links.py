"""Links, addresses, routes and settings of one namespace. All of this runs inside of it, by its worker.

What leads upwards is called ``eth0`` everywhere. Routers answer for themselves on every link: for IPv4 with
any of their addresses, as Linux does by default, for IPv6 with the link-local address :data:`GATEWAY`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import Any

from kproxy_nat.errors import ApplyError, Code, Problem
from kproxy_nat.net.addresses import Address, Cidr, IpFamily, family_of, host_network

UPLINK = "eth0"
LOOPBACK = "lo"
GATEWAY = Address("fe80::1")
"""A router's own address on each of its links."""

DEFAULT_ROUTES = {IpFamily.IPV4: Cidr("0.0.0.0/0"), IpFamily.IPV6: Cidr("::/0")}

HOST_SETTINGS: Mapping[str, str] = {
    # Link-local addresses, which come by themselves, are usable at once: there can be no duplicates.
    "ipv6/conf/all/accept_dad": "0",
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/all/accept_ra": "0",
    "ipv6/conf/default/accept_ra": "0",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    # A pod that reaches itself leaves by the link on which it came in: nobody shall propose a short cut.
    "ipv4/conf/all/send_redirects": "0",
    "ipv4/conf/default/send_redirects": "0",
    "ipv6/conf/all/accept_redirects": "0",
    "ipv6/conf/default/accept_redirects": "0",
}
"""Settings of every namespace. A new one inherits the host's IPv4 settings: nothing is left to chance."""

ROUTER_SETTINGS: Mapping[str, str] = {
    # First, as it sets others to a router's defaults.
    "ipv4/ip_forward": "1",
    "ipv6/conf/all/forwarding": "1",
    **HOST_SETTINGS,
    # A refusal is an ICMP message; no more than one a second would make the others look like losses.
    "ipv4/icmp_ratelimit": "0",
    "ipv6/icmp/ratelimit": "0",
}
"""Settings of namespaces that forward."""

_SETTINGS = Path("/proc/sys/net")
_ONLINK = 4
"""RTNH_F_ONLINK of rtnetlink(7): the gateway is on this link, though no network says so."""
_NODAD = 2
"""IFA_F_NODAD of rtnetlink(7): the address is usable at once."""
_FAMILIES = {IpFamily.IPV4: AF_INET, IpFamily.IPV6: AF_INET6}


def write_settings(settings: Mapping[str, str]) -> None:
    """Write kernel settings, named by their paths below ``/proc/sys/net``, of the thread's namespace.

    Raises:
        ApplyError: one could not be written.
    """
    for name, value in settings.items():
        try:
            (_SETTINGS / name).write_text(value)
        except OSError as error:
            message = f"cannot set net.{name.replace('/', '.')} to {value}: {error.strerror}"
            raise ApplyError(Problem(Code.SYSCTL_FAILED, message)) from None


def start_loopback(addresses: Iterable[Address] = ()) -> None:
    """Bring the loopback interface up, and give it addresses."""
    with _netlink() as ip:
        _bring_up(ip, LOOPBACK)
        _add_addresses(ip, LOOPBACK, addresses)


def add_link(name: str, far_namespace: str) -> None:
    """Add an interface whose other end is the uplink of another namespace, and be the gateway on it.

    Raises:
        ApplyError: the kernel refuses it.
    """
    with _netlink() as ip:
        ip.link("add", ifname=name, kind="veth", peer={"ifname": UPLINK, "net_ns_fd": far_namespace})
        _bring_up(ip, name)
        ip.addr("add", index=_index(ip, name), address=GATEWAY, prefixlen=64)


def start_uplink(addresses: Sequence[Address], gateways: Iterable[Address]) -> None:
    """Give the uplink its addresses, and send everything else to the gateways, one of each family.

    Of a family's addresses the first is the source of what is sent there; a client may choose another.

    Raises:
        ApplyError: the kernel refuses it.
    """
    with _netlink() as ip:
        _bring_up(ip, UPLINK)
        _add_addresses(ip, UPLINK, addresses)
        for gateway in gateways:
            family = family_of(gateway)
            source = next(address for address in addresses if family_of(address) is family)
            _add_route(ip, DEFAULT_ROUTES[family], UPLINK, gateway, prefsrc=source)


def add_routes(link: str, direct: Iterable[Address], beyond: Iterable[Cidr]) -> None:
    """Route to the addresses on the other end of a link, and to networks beyond it.

    A network of a family of which the other end has no address is left out: nobody could forward it.

    Raises:
        ApplyError: the kernel refuses it.
    """
    with _netlink() as ip:
        gateways: dict[IpFamily, Address] = {}
        for address in direct:
            gateways.setdefault(family_of(address), address)
            _add_route(ip, host_network(address), link)
        for network in beyond:
            with suppress(KeyError):
                _add_route(ip, network, link, gateways[family_of(network)])


@contextmanager
def _netlink() -> Iterator[Any]:
    """Open a socket to the kernel's routing, whose refusals become problems."""
    from pyroute2 import IPRoute, NetlinkError  # noqa: PLC0415 # a fifth of a second

    try:
        with IPRoute() as ip:
            yield ip
    except NetlinkError as error:
        missing = error.code == errno.EOPNOTSUPP
        code = Code.KERNEL_FEATURE_MISSING if missing else Code.NOT_PERMITTED
        hint = "the kernel needs veth interfaces and both IP families" if missing else ""
        message = f"cannot set up the lab's links: {os.strerror(error.code)}"
        raise ApplyError(Problem(code, message, hint=hint)) from error


def _index(ip: Any, name: str) -> int:
    index: int = ip.link_lookup(ifname=name)[0]
    return index


def _bring_up(ip: Any, name: str) -> None:
    ip.link("set", index=_index(ip, name), state="up")


def _add_addresses(ip: Any, name: str, addresses: Iterable[Address]) -> None:
    index = _index(ip, name)
    for address in addresses:
        # Without the flag an IPv6 address is for a moment no valid source, whatever accept_dad says.
        flags = {"flags": _NODAD} if family_of(address) is IpFamily.IPV6 else {}
        ip.addr("add", index=index, address=address, prefixlen=family_of(address).bits, **flags)


def _add_route(
    ip: Any, network: Cidr, link: str, gateway: Address | None = None, **attributes: Address
) -> None:
    way = {"gateway": gateway, "flags": _ONLINK} if gateway else {}
    family = _FAMILIES[family_of(network)]
    ip.route("add", family=family, dst=network, oif=_index(ip, link), **way, **attributes)
