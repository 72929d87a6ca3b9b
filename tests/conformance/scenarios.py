"""The recorded scenarios, and how each is put to the compiler."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kproxy_nat.net.addresses import IpFamily
from tests.conformance.command_line import compiled

RECORDED = Path(__file__).parent / "recorded"
NODE_ADDRESSES = ("192.168.0.2/24", "fd00:192:168::2/64")
SERVICE_CIDRS = ("10.96.0.0/12", "fd00:10:96::/112")
TOOLS = {IpFamily.IPV4: "iptables", IpFamily.IPV6: "ip6tables"}
FORMS = ("restore", "save")


@dataclass(frozen=True)
class Scenario:
    """A folder of ``recorded``."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    def recorded(self, form: str, family: IpFamily) -> str:
        """Return kube-proxy's own text."""
        return (self.folder / f"{TOOLS[family]}.{form}").read_text()

    @property
    def case(self) -> dict[str, Any]:
        """The node's name, its interfaces, and fields of the configuration."""
        found: dict[str, Any] = yaml.safe_load((self.folder / "case.yaml").read_text())
        return found

    @property
    def local_addresses(self) -> tuple[str, ...]:
        """The addresses of the node's interfaces, with prefix lengths."""
        return (*NODE_ADDRESSES, *interface_addresses(self.case.get("iface", [])))

    def compiled(self, form: str, family: IpFamily, scratch: Path, *more: str) -> str:
        """Return our text for the same input; ``scratch`` is a folder for the configuration file."""
        return self._compiled(scratch, "--nfacct", "--form", form, "--family", family.lower(), *more)

    def recorded_nft(self, form: str) -> str:
        """Return kube-proxy's own text in nftables mode, of both families."""
        names = ("nft.list",) if form == "save" else ("nft-ip.transaction", "nft-ip6.transaction")
        return "".join((self.folder / name).read_text() for name in names)

    def compiled_nft(self, form: str, scratch: Path, *more: str) -> str:
        """Return our text in nftables mode for the same input."""
        cidrs = ",".join(SERVICE_CIDRS)
        return self._compiled(scratch, "--mode", "nftables", "--form", form, "--service-cidr", cidrs, *more)

    def _compiled(self, scratch: Path, *options: str) -> str:
        case = self.case
        config = scratch / "kube-proxy.yaml"
        config.write_text(yaml.safe_dump(configuration(case.get("set", {}))))
        return compiled(
            self.folder / "manifests.yaml",
            *("--config", config, "--node", case["node_name"]),
            *("--local-address", ",".join(self.local_addresses)),
            *options,
        )


SCENARIOS = [Scenario(folder) for folder in sorted(RECORDED.iterdir()) if folder.is_dir()]


def configuration(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a KubeProxyConfiguration; names of fields may lead into groups: ``iptables.masqueradeAll``."""
    config: dict[str, Any] = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
    }
    for path, value in fields.items():
        *groups, field = path.split(".")
        place = config
        for group in groups:
            place = place.setdefault(group, {})
        place[field] = value
    return config


def interface_addresses(interfaces: list[str]) -> list[str]:
    """Return the addresses of interfaces that are given as ``NAME=CIDR,CIDR``."""
    return [address for interface in interfaces for address in interface.partition("=")[2].split(",")]
