"""Reading Services out of rules of nftables: edited by hand, and in the compact layout."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml

from kproxy_nat.diff.services import diff_services
from kproxy_nat.diff.settings import diff_settings
from kproxy_nat.formats.nft_render import render_listing
from kproxy_nat.formats.nft_rule_files import load_nft
from kproxy_nat.lowering.layouts import Layout, LayoutName
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.options import ProxyMode
from kproxy_nat.proxy.view import build_view
from kproxy_nat.recover.model import PortKey, RecoveredPort
from kproxy_nat.recover.nft_affected import affected_nft_services
from kproxy_nat.recover.nft_sources import NftTableSource
from kproxy_nat.recover.reading import Recovered, recover_nft
from tests.conformance.command_line import run
from tests.golden.gallery import GALLERY, TOPICS, nft_text
from tests.oracle.compiling import cluster_of, options_of
from tests.oracle.manifests import Manifest, endpoint, endpoint_slice, node, port, service

WEB = PortKey("shop/web:http", "TCP")
RULES = (GALLERY / "diffs" / "nft-endpoint-added" / "old.nft").read_text()
STICKY = (GALLERY / "diffs" / "nft-affinity-endpoint-removed" / "old.nft").read_text()
COMPACT_FILE = "nftables-compact.nft"
SHARED_FILE = GALLERY / "diffs" / "nft-compact-endpoint-added" / "old.nft"
SHARED = SHARED_FILE.read_text()


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


def compact_text(*objects: Manifest) -> str:
    """Return the table of a node in the compact layout."""
    cluster = cluster_of([node(), *objects])
    view = build_view(cluster, options_of(cluster, mode=ProxyMode.NFTABLES), IpFamily.IPV4)
    return render_listing(Layout(LayoutName.COMPACT).nft_ruleset(view).tables.values())


def compact(*objects: Manifest) -> dict[PortKey, RecoveredPort]:
    return recovered(compact_text(*objects)).ports


class TestCompact:
    @pytest.mark.parametrize("family", IpFamily)
    @pytest.mark.parametrize("topic", TOPICS)
    def test_it_shows_the_same_services_as_kube_proxys(self, topic: str, family: IpFamily) -> None:
        """But for where both layouts keep a Service that lost an address."""
        reference = recovered(nft_text(topic), family)
        found = recovered((GALLERY / topic / COMPACT_FILE).read_text(), family)
        assert diff_services(reference.ports, found.ports) == []
        assert found.settings.node_ports_on == reference.settings.node_ports_on
        assert found.settings.cluster_ip_masquerade == reference.settings.cluster_ip_masquerade

    @pytest.mark.parametrize("topic", TOPICS)
    def test_import_names_services_as_from_kube_proxys(self, topic: str) -> None:
        status, expected, _ = run("import", GALLERY / topic / "nftables.nft")
        assert status == 0
        status, out, err = run("import", GALLERY / topic / COMPACT_FILE)
        assert status == 0
        assert named_in(out) == named_in(expected)
        assert "left out" not in err

    def test_all_addresses_are_of_one_service(self) -> None:
        """With the ranges that the load balancer's addresses admit, which are not among these."""
        ports = [port(80, "http", nodePort=30080)]
        fields: dict[str, Any] = {
            "type": "LoadBalancer",
            "externalTrafficPolicy": "Local",
            "externalIPs": ["198.51.100.7"],
            "loadBalancerSourceRanges": ["192.168.0.0/16", "203.0.113.0/24"],
        }
        vips = ["192.0.2.1", "192.0.2.2"]
        pods = [endpoint("10.180.0.1", "node1"), endpoint("10.180.1.2")]
        made = service("shop/web", "10.96.0.10", ports=ports, vips=vips, **fields)
        found = compact(made, endpoint_slice("shop/web", pods, ports=[port(8080)]))
        assert list(found) == [WEB]
        web = found[WEB]
        assert (web.cluster_ip, web.port, web.node_port) == ("10.96.0.10", 80, 30080)
        assert web.addresses == {
            "198.51.100.7": "external address",
            "192.0.2.1": "load balancer IP",
            "192.0.2.2": "load balancer IP",
        }
        assert (web.source_ranges, web.admits_node) == (("192.168.0.0/16", "203.0.113.0/24"), True)
        assert (web.internal_policy, web.external_policy) == ("Cluster", "Local")
        assert list(web.cluster) == ["10.180.0.1:8080", "10.180.1.2:8080"]
        assert web.local == {"10.180.0.1:8080": Fraction(1)}
        assert web.on_node == ("10.180.0.1:8080",)
        assert web.rest == ()

    @pytest.mark.parametrize("length", [127, 128, 129, 191])
    def test_the_longest_names_are_whole(self, length: int) -> None:
        """Comments have room for 128 characters."""
        name = f"{'n' * 63}/{'s' * min(63, length - 66)}"
        ports = [port(80, "p" * (length - len(name) - 1))]
        found = compact(service(name, ports=ports), endpoint_slice(name, ports=ports))
        assert [len(key.service) for key in found] == [length]
        assert next(iter(found)).service == f"{name}:{ports[0]['name']}"

    def test_an_element_that_tells_no_service(self, tmp_path: Path) -> None:
        """It is known by its address; import, which needs a name, leaves it out."""
        path = tmp_path / "edited.nft"
        path.write_text(SHARED.replace(' comment "shop/web:http"', ""))
        status, out, err = run("import", path)
        assert status == 0
        assert "kind: Service\n" not in out
        assert (
            "10.96.0.20:80/TCP: rules do not tell which Service this is an address of; it is left out" in err
        )
        status, out, _ = run("diff", SHARED_FILE, path)
        assert status == 1
        assert "~ is named 10.96.0.20:80/TCP, no longer shop/web:http/TCP" in out

    @pytest.mark.parametrize(
        ("comment", "shown"),
        [
            ("x", "x"),
            ("shop/web", "shop/web"),
            ("a/b/c:d:e", "a/b/c:d:e"),
            ("shop/web:http...", "shop/web:http..."),
        ],
    )
    def test_other_comments_break_nothing(self, comment: str, shown: str, tmp_path: Path) -> None:
        path = tmp_path / "edited.nft"
        path.write_text(SHARED.replace("shop/web:http", comment))
        assert run("import", path)[0] == 0
        status, out, _ = run("diff", SHARED_FILE, path)
        assert status == 1
        assert f"is named {shown}/TCP" in out

    def test_an_address_with_other_endpoints(self) -> None:
        """As somebody may have edited it: compared with the one that is listed first."""
        more = SHARED.replace(
            '10.96.0.20 . tcp . 80 comment "shop/web:http" : goto balance-tcp-2',
            '10.96.0.20 . tcp . 80 comment "shop/web:http" : goto balance-tcp-2,\n\t\t\t     '
            '192.0.2.1 . tcp . 80 comment "shop/web:http" : goto external-tcp-2',
        ).replace(
            "elements = { 10.96.0.20 . 80 . 0",
            "elements = { 192.0.2.1 . 80 . 0 : 10.180.9.9 . 8080,\n\t\t\t     10.96.0.20 . 80 . 0",
        )
        chain = (
            "\tchain external-tcp-2 {\n\t\tmeta mark set meta mark | 0x00004000 goto balance-tcp-2\n\t}\n}\n"
        )
        web = recovered(more.removesuffix("}\n") + chain).ports[WEB]
        assert web.addresses == {"192.0.2.1": "external address"}
        assert web.rest == ("10.96.0.20:80/TCP has other endpoints than the rest of the Service",)

    def test_an_odd_rule_in_a_chain_of_many_is_told_once_for_each(self) -> None:
        """However many of its addresses lead there."""
        text = compact_text(
            service("shop/web", ports=[port(80, "http", nodePort=30080)], vips=["192.0.2.1", "192.0.2.2"]),
            endpoint_slice("shop/web", ports=[port(8080)]),
        )
        odd = text.replace("\tchain balance-tcp-1 {\n", "\tchain balance-tcp-1 {\n\t\ttcp dport 99 drop\n")
        assert recovered(odd).ports[WEB].rest == ("add rule ip kube-proxy balance-tcp-1 tcp dport 99 drop",)

    def test_without_its_cluster_ip_nothing_is_said_of_masquerade(self) -> None:
        made = service("shop/web", ports=[port(80, "http", nodePort=30080)], type="NodePort")
        whole = compact_text(made, endpoint_slice("shop/web", ports=[port(8080)]))
        begin = whole.index("\t\telements = { 10.96.0.10 . tcp")
        gone = recovered(whole[:begin] + whole[whole.index("\n", begin) + 1 :]).ports
        (change,) = diff_services(recovered(whole).ports, gone)
        assert [fact.text for fact in change.facts] == ["cluster IP 10.96.0.10"]

    def test_the_layout_is_not_guessed_where_no_service_is_served(self) -> None:
        """So the last endpoint that goes is no change of the layout."""
        made = service("shop/web")
        served = recovered(compact_text(made, endpoint_slice("shop/web")))
        refused = recovered(compact_text(made))
        assert (served.settings.layout, refused.settings.layout) == ("compact", "")
        assert diff_settings(served.settings, refused.settings) == []
        assert not served.settings.is_arranged_unlike(refused.settings)
        assert recovered(RULES).settings.layout == "kube-proxy"
        assert served.settings.is_arranged_unlike(recovered(RULES).settings)

    def test_a_chain_for_source_ranges_shows_the_layout(self) -> None:
        ranges: dict[str, Any] = {"type": "LoadBalancer", "loadBalancerSourceRanges": ["203.0.113.0/24"]}
        made = service("shop/web", vips=["192.0.2.1"], **ranges)
        assert recovered(compact_text(made)).settings.layout == "compact"
        topic = (GALLERY / "loadbalancer-source-ranges" / "nftables.nft").read_text()
        assert recovered(topic).settings.layout == "kube-proxy"

    def test_only_what_differs_is_read(self) -> None:
        """Of two Services in the same maps, the one with another endpoint."""
        pair = [service("shop/web", "10.96.0.10"), service("shop/api", "10.96.0.11")]
        slices = [endpoint_slice("shop/web", [endpoint(f"10.180.1.{n}")]) for n in (1, 2)]
        api = endpoint_slice("shop/api", [endpoint("10.180.2.1")])
        old, new = (load_nft(compact_text(*pair, one, api)) for one in slices)
        wanted = affected_nft_services(old, new, IpFamily.IPV4)
        assert wanted == {"shop/web:http"}
        assert list(recover_nft(NftTableSource(new, IpFamily.IPV4, wanted)).ports) == [WEB]


def named_in(manifests: str) -> list[tuple[str, str, str]]:
    """Return kind, namespace and name of objects, with the names of ports in the place of those of slices."""
    found = []
    for item in yaml.safe_load_all(manifests):
        if item["kind"] == "Service":
            meta = item["metadata"]
            ports = sorted(f"{entry.get('name', '')}/{entry['protocol']}" for entry in item["spec"]["ports"])
            found.append((meta["namespace"], meta["name"], " ".join(ports)))
    return found


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
