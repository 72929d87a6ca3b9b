"""A node, two pods and a client outside, each in a namespace of its own, that talk over UDP.

Pods answer on port 8080 with their own name and the address that asked. Only what is made here is touched.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from kproxy_nat.apply.namespaces import Namespace, open_host, open_namespace
from tests.kernel.netns import WAIT
from tests.patience import patient

NODE, CLIENT = "node", "client"
ADDRESSES = {"pod1": "10.180.0.1", "pod2": "10.180.0.2", CLIENT: "192.0.2.9"}
NODE_ADDRESS = "192.168.0.2"
SERVER_PORT = 8080
TIMEOUT = patient(1.0)


@dataclass(frozen=True)
class Answer:
    """Who answered, and from which address the question came to it."""

    server: str
    seen_from: str


class PacketNode:
    """The namespaces, open."""

    def __init__(self, spaces: dict[str, Namespace]) -> None:
        self.spaces = spaces

    def restore(self, rules: str, variant: str, *arguments: str) -> None:
        """Load rules on the node."""
        inside = ["ip", "netns", "exec", self.spaces[NODE].label]
        command = [*inside, f"iptables-{variant}-restore", WAIT, *arguments]
        subprocess.run(command, input=rules, text=True, check=True)

    def ask(self, who: str, address: str, port: int) -> Answer:
        """Send a question from a new socket, and return the answer.

        Raises:
            OSError: nobody answered in time, or the question was refused.
        """
        return self.spaces[who].run(_ask, address, port)


def _ask(address: str, port: int) -> Answer:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(TIMEOUT)
        client.connect((address, port))
        client.send(b"?")
        server, _, seen_from = client.recv(100).decode().partition(" ")
        return Answer(server, seen_from)


def _serve(server: socket.socket, name: str, ended: threading.Event) -> None:
    while not ended.is_set():
        try:
            _, asked_from = server.recvfrom(100)
            server.sendto(f"{name} {asked_from[0]}".encode(), asked_from)
        except TimeoutError:
            continue


def _listen(name: str, ended: threading.Event) -> threading.Thread:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.settimeout(0.05)
    server.bind(("0.0.0.0", SERVER_PORT))
    thread = threading.Thread(target=_serve, args=(server, name, ended), daemon=True)
    thread.start()
    return thread


def _commands(names: dict[str, str], *, on_host: bool) -> Iterator[str]:
    node = names[NODE]
    yield f"ip netns attach {node} {os.getpid()}" if on_host else f"ip netns add {node}"
    yield from (f"ip netns add {names[who]}" for who in ADDRESSES)
    yield from (f"ip -n {name} link set dev lo up" for name in names.values())
    yield f"ip -n {node} addr add {NODE_ADDRESS}/32 dev lo"
    for who, address in ADDRESSES.items():
        name, link = names[who], f"to-{who}"
        yield f"ip -n {node} link add {link} type veth peer name eth0 netns {name}"
        yield f"ip -n {name} addr add {address}/32 dev eth0"
        yield f"ip -n {name} link set dev eth0 up"
        yield f"ip -n {node} link set dev {link} up"
        yield f"ip -n {name} route add {NODE_ADDRESS} dev eth0"
        yield f"ip -n {name} route add default via {NODE_ADDRESS}"
        yield f"ip -n {node} route add {address} dev {link} src {NODE_ADDRESS}"
    for setting in ("ip_forward=1", "conf.all.route_localnet=1"):
        yield f"ip netns exec {node} sysctl -qw net.ipv4.{setting}"
    # The node has no default route; what no rule translates has to have somewhere to go.
    yield f"ip -n {node} link add elsewhere type veth peer name nowhere"
    yield from (f"ip -n {node} link set dev {link} up" for link in ("elsewhere", "nowhere"))
    yield f"ip -n {node} route add 10.96.0.0/16 dev elsewhere src {NODE_ADDRESS}"


@contextmanager
def packet_node(*, on_host: bool = False) -> Iterator[PacketNode]:
    """Make the namespaces, and remove them at the end; ``on_host``, the node is the namespace of the caller.

    There links, an address and settings stay behind: that is for a machine that is thrown away.
    """
    names = {who: f"kpn-c-{os.getpid()}-{who}" for who in (NODE, *ADDRESSES)}
    ended = threading.Event()
    with ExitStack() as stack:
        for name in names.values():
            stack.callback(subprocess.run, ["ip", "netns", "del", name], check=False)
        for command in _commands(names, on_host=on_host):
            subprocess.run(command.split(), check=True)
        spaces = {who: stack.enter_context(open_namespace(names[who])) for who in ADDRESSES}
        spaces[NODE] = stack.enter_context(open_host() if on_host else open_namespace(names[NODE]))
        servers = [spaces[who].run(_listen, who, ended) for who in ADDRESSES if who != CLIENT]
        try:
            yield PacketNode(spaces)
        finally:
            ended.set()
            for server in servers:
                server.join()
