"""Reading Services out of rules of nftables: edited by hand, and in the compact layout."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from kproxy_nat.diff.services import diff_services
from kproxy_nat.formats.nft_rule_files import load_nft
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.recover.model import PortKey, RecoveredPort
from kproxy_nat.recover.naming import named_after
from kproxy_nat.recover.nft_sources import NftTableSource
from kproxy_nat.recover.reading import Recovered, recover_nft
from tests.conformance.command_line import run
from tests.golden.gallery import GALLERY, TOPICS, nft_text

WEB = PortKey("shop/web:http", "TCP")
RULES = (GALLERY / "diffs" / "nft-endpoint-added" / "old.nft").read_text()
STICKY = (GALLERY / "diffs" / "nft-affinity-endpoint-removed" / "old.nft").read_text()
COMPACT_FILE = "nftables-compact.nft"


def recovered(text: str, family: IpFamily = IpFamily.IPV4) -> Recovered:
    return recover_nft(NftTableSource(load_nft(text), family))


def read(text: str) -> RecoveredPort:
    return recovered(text).ports[WEB]


class TestShares:
    def test_of_equal_endpoints(self) -> None:
        assert read(RULES).cluster == {"10.180.0.4:8080": Fraction(1, 2), "10.180.1.5:8080": Fraction(1, 2)}

    def test_a_number_without_an_endpoint(self) -> None:
        shares = read(RULES.replace("mod 2", "mod 4")).cluster
        assert shares.pop("") == Fraction(1, 2)
        assert shares == {"10.180.0.4:8080": Fraction(1, 4), "10.180.1.5:8080": Fraction(1, 4)}

    def test_with_affinity(self) -> None:
        port = read(STICKY)
        assert set(port.cluster.values()) == {Fraction(1, 2)}
        assert port.affinity_seconds == 10800


class TestRest:
    @pytest.mark.parametrize("odd", ["ip saddr 10.0.0.9 drop", "tcp dport 81 limit rate 1/second accept"])
    def test_a_rule_that_no_service_has(self, odd: str) -> None:
        head, chain, rest = RULES.partition("\tchain service-KHN6ECMT-shop/web/tcp/http {\n")
        port = read(f"{head}{chain}\t\t{odd}\n{rest}")
        assert port.rest == (f"add rule ip kube-proxy service-KHN6ECMT-shop/web/tcp/http {odd}",)

    def test_a_client_that_is_not_noted(self) -> None:
        lines = [line for line in STICKY.splitlines() if "update @" not in line or "10.180.0.4" not in line]
        assert [text for text in read("\n".join(lines)).rest if "session affinity is half there" in text]

    def test_a_chain_under_another_hash(self) -> None:
        """Rules are read by what they do: no hash is computed."""
        assert read(RULES.replace("KHN6ECMT", "AAAAAAAA")) == read(RULES)


class TestCompact:
    @pytest.mark.parametrize("family", IpFamily)
    @pytest.mark.parametrize("topic", TOPICS)
    def test_it_shows_the_same_services_as_kube_proxys(self, topic: str, family: IpFamily) -> None:
        """With the names of the other, and but for where both layouts keep a Service that lost an address."""
        reference = recovered(nft_text(topic), family)
        found = recovered((GALLERY / topic / COMPACT_FILE).read_text(), family)
        assert diff_services(reference.ports, named_after(found.ports, reference.ports)) == []
        assert found.settings.node_ports_on == reference.settings.node_ports_on
        assert found.settings.cluster_ip_masquerade == reference.settings.cluster_ip_masquerade

    def test_import_names_services_after_addresses(self, tmp_path: Path) -> None:
        status, out, err = run("import", GALLERY / "external-policy-local" / COMPACT_FILE)
        assert status == 0
        assert "those of their addresses" in err
        assert "node port 30080/TCP: rules do not tell which Service" in err
        assert "name: at-10-96-12-34" in out
        assert "namespace: unnamed" in out


@pytest.mark.parametrize("topic", ["session-affinity", "loadbalancer-source-ranges", "dual-stack"])
def test_names_are_taken_from_the_other_side(topic: str) -> None:
    compact, manifests = GALLERY / topic / COMPACT_FILE, GALLERY / topic / "manifests.yaml"
    status, out, err = run("diff", compact, manifests, "--mode", "nftables", "--node", "node1")
    assert "~ rules in layout kube-proxy, no longer in layout compact" in out, err
    assert out.startswith("no Service differs\n")
    status, out, err = run(
        "diff", compact, manifests, "--mode", "nftables", "--layout", "compact", "--level", "structural"
    )
    assert (status, out) == (0, "no difference\n"), err
