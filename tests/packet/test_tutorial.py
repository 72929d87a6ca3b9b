"""The tutorial's files as they are typed, applied by the command line, and real nginx behind them.

Where its manifests say nothing, addresses are those that ``services`` and ``endpoints`` tell.
"""

from __future__ import annotations

import http.client
import json
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kproxy_nat.apply.namespaces import Namespace
from kproxy_nat.apply.tools import find_program
from kproxy_nat.lab.building import Lab, build
from kproxy_nat.lab.links import write_settings
from kproxy_nat.lab.topology import Host, Node, Topology
from kproxy_nat.net.addresses import Address, IpFamily, parse_address, parse_cidr
from tests.conformance.command_line import run
from tests.golden.gallery import GALLERY
from tests.kernel.netns import requires_kernel
from tests.packet.loading import KINDS, NFT_LAYOUTS, NFTABLES
from tests.packet.processes import wait_for_port

requires_nginx = pytest.mark.skipif(
    not find_program("nginx"), reason="nginx is missing: apt install nginx-light"
)

pytestmark = [pytest.mark.kernel, requires_kernel, requires_nginx]

TUTORIAL = GALLERY / "tutorial"
SERVICE_CIDRS = {IpFamily.IPV4: "10.96.0.0/12", IpFamily.IPV6: "fd00:10:96::/112"}
OUTSIDE = {IpFamily.IPV4: "192.168.99.100", IpFamily.IPV6: "fd00:192:168:99::64"}
NODE_PORT = 32600
CONTAINER_PORT = 8080
CONNECTIONS = 40
"""Of two replicas, each is met: all but once in 10^11 runs."""

CONFIG = """daemon off;
user root;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder};
  proxy_temp_path {folder};
  fastcgi_temp_path {folder};
  uwsgi_temp_path {folder};
  scgi_temp_path {folder};
  server {{
    listen {port};
    listen [::]:{port};
    return 200 "{name} $remote_addr";
  }}
}}
"""


def addresses(host: str, *texts: str) -> Host:
    return Host(host, tuple(map(parse_address, texts)))


def pods(step: str, node: str) -> list[Host]:
    """Return the Pods that a step has on a node, each with the addresses of both families."""
    found: dict[str, list[Address]] = {}
    for family in IpFamily:
        for item in objects("endpoints", TUTORIAL / step, family):
            for endpoint in item["endpoints"]:
                if endpoint.get("nodeName") == node:
                    found.setdefault(endpoint["targetRef"]["name"], []).extend(endpoint["addresses"])
    return [Host(name, tuple(own)) for name, own in found.items()]


def objects(command: str, source: Path, family: IpFamily) -> list[Any]:
    """Return the objects that a command prints."""
    status, out, err = run(command, source, "-o", "json", "--service-cidr", SERVICE_CIDRS[family])
    assert status == 0, err
    items: list[Any] = json.loads(out)["items"]
    return items


def virtual_ip(source: Path, family: IpFamily) -> Address:
    """Return the address that a step's only Service is given."""
    [service] = objects("services", source, family)
    return parse_address(service["spec"]["clusterIP"])


VISITOR = addresses("visitor", "10.244.1.9", "fd00:10:244:1::9")
CLIENT = addresses("client", "198.51.100.1", "fd00:198::1")
NGINX = addresses("nginx", *OUTSIDE.values())
FABRIC = addresses("fabric", "192.168.99.254", "fd00:192:168:99::fe")
NETWORKS = tuple(map(parse_cidr, SERVICE_CIDRS.values()))


def topology() -> Topology:
    """Return the two nodes that the tutorial assumes, with its Pods, a client, and a host with an nginx."""
    first, second = (
        Node(
            f"node-{number}",
            tuple(map(parse_address, (f"192.168.99.{number}", f"fd00:192:168:99::{number}"))),
            pods=(*([VISITOR] if number == 1 else []), *pods("1-clusterip", f"node-{number}")),
            networks=NETWORKS if number == 1 else (),
        )
        for number in (1, 2)
    )
    return Topology(FABRIC, (first, second), (CLIENT, NGINX))


@dataclass(frozen=True)
class Tutorial:
    """The lab, and what runs in it."""

    lab: Lab
    state_dir: Path

    @property
    def node(self) -> Node:
        return self.lab.topology.nodes[0]

    @property
    def replicas(self) -> set[str]:
        return {pod.name for node in self.lab.topology.nodes for pod in node.pods} - {VISITOR.name}

    def options(self) -> list[str]:
        return ["--netns", self.lab.of(self.node).label, "--state-dir", str(self.state_dir)]

    def fetch(self, who: Host, address: Address, port: int) -> list[tuple[str, str]]:
        """Return who answered and whom it saw, connection by connection."""
        return [self.lab.of(who).run(get, address, port) for _ in range(CONNECTIONS)]


def get(address: Address, port: int) -> tuple[str, str]:
    """Ask an nginx for its page: its name, and the client's address as it sees it."""
    connection = http.client.HTTPConnection(str(address), port, timeout=10)
    try:
        connection.request("GET", "/")
        name, _, peer = connection.getresponse().read().decode().partition(" ")
    finally:
        connection.close()
    return name, peer


@contextmanager
def nginx(namespace: Namespace, name: str, folder: Path) -> Iterator[None]:
    """Run Debian's nginx in a namespace."""
    folder.mkdir()
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, port=CONTAINER_PORT, name=name), encoding="utf-8")
    command = [str(find_program("nginx")), "-e", f"{folder}/error.log", "-c", str(config)]
    process: subprocess.Popen[bytes] = namespace.run(subprocess.Popen, command)
    try:
        wait_for_port(namespace, process, CONTAINER_PORT)
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tutorial]:
    folder = tmp_path_factory.mktemp("tutorial")
    with build(topology()) as lab, ExitStack() as stack:
        hosts = {pod.name: pod for node in lab.topology.nodes for pod in node.pods} | {NGINX.name: NGINX}
        for name, host in hosts.items():
            if host is not VISITOR:
                stack.enter_context(nginx(lab.of(host), name, folder / name))
        yield Tutorial(lab, folder / "state")


@pytest.fixture(params=IpFamily)
def family(request: pytest.FixtureRequest) -> IpFamily:
    found: IpFamily = request.param
    return found


@pytest.fixture(params=KINDS)
def kind(
    request: pytest.FixtureRequest, tutorial: Tutorial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Return the kind of rules; they are gone after each test.

    The lock of the legacy tools is one for all namespaces: here it is another than the host's.
    """
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "xtables.lock"))
    tutorial.lab.of(tutorial.node).run(write_settings, {"ipv4/conf/all/route_localnet": "0"})
    yield request.param
    status, _, err = run("delete", *tutorial.options())
    assert status == 0, err


def apply(tutorial: Tutorial, source: Path, kind: str, family: IpFamily) -> None:
    """Apply manifests to node-1, as a learner would."""
    nft = NFT_LAYOUTS.get(kind)
    own = ["--mode", NFTABLES, "--layout", nft.name] if nft else ["--iptables", kind]
    cidr = ["--service-cidr", SERVICE_CIDRS[family]]
    status, out, err = run("apply", source, *own, *cidr, *tutorial.options())
    assert status == 0, err
    assert out.endswith("apply done and verified\n")


def names(answers: list[tuple[str, str]]) -> set[str]:
    return {name for name, _ in answers}


def test_cluster_ip(tutorial: Tutorial, kind: str, family: IpFamily) -> None:
    """Both replicas are reached, by a Pod beside them, by the node, and by the replicas themselves."""
    source = TUTORIAL / "1-clusterip"
    apply(tutorial, source, kind, family)
    address = virtual_ip(source, family)
    for who in (VISITOR, tutorial.node, *(pod for pod in tutorial.node.pods if pod is not VISITOR)):
        answers = tutorial.fetch(who, address, 80)
        assert names(answers) == tutorial.replicas
        assert min(Counter(name for name, _ in answers).values()) > 1


def test_node_port(tutorial: Tutorial, kind: str, family: IpFamily) -> None:
    """From outside of the cluster, both replicas are reached; they see the node as their client."""
    apply(tutorial, TUTORIAL / "2-nodeport", kind, family)
    answers = tutorial.fetch(CLIENT, tutorial.node.address(family), NODE_PORT)
    assert names(answers) == tutorial.replicas
    assert {peer for _, peer in answers} == {str(tutorial.node.address(family))}


def test_external_nginx(tutorial: Tutorial, kind: str, family: IpFamily, tmp_path: Path) -> None:
    """The Service without selector leads out of the cluster."""
    source = tmp_path / "manifests.yaml"
    text = (TUTORIAL / "5-external-nginx" / "manifests.yaml").read_text(encoding="utf-8")
    assert OUTSIDE[IpFamily.IPV4] in text
    source.write_text(text.replace(OUTSIDE[IpFamily.IPV4], OUTSIDE[family]), encoding="utf-8")
    apply(tutorial, source, kind, family)
    answers = tutorial.fetch(VISITOR, virtual_ip(source, family), 80)
    assert set(answers) == {(NGINX.name, str(VISITOR.address(family)))}


def test_all_steps_together(tutorial: Tutorial, kind: str, tmp_path: Path) -> None:
    """A learner's folder with the last state of everything; nothing of one step disturbs another."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    texts: Mapping[str, str] = {
        step: (TUTORIAL / step / "manifests.yaml").read_text(encoding="utf-8")
        for step in ("2-nodeport", "5-external-nginx")
    }
    for step, text in texts.items():
        (folder / f"{step}.yaml").write_text(text, encoding="utf-8")
    apply(tutorial, folder, kind, IpFamily.IPV4)
    assert names(tutorial.fetch(CLIENT, tutorial.node.address(IpFamily.IPV4), NODE_PORT)) == tutorial.replicas
    outside = virtual_ip(TUTORIAL / "5-external-nginx", IpFamily.IPV4)
    assert names(tutorial.fetch(VISITOR, outside, 80)) == {NGINX.name}
