"""Laws that hold for every cluster: what changes an output, and what must not."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import random
import re
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from kproxy_nat.formats.iptables_parse import parse_save
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.proxy.conflicts import find_conflicts
from kproxy_nat.proxy.options import ProxyMode
from kproxy_nat.proxy.view import NodeView, build_view
from kproxy_nat.ruleset.actions import Jump
from kproxy_nat.ruleset.matches import Random, Recent
from kproxy_nat.ruleset.rules import Chain, Ruleset
from kproxy_nat.ruleset.wellformed import faults, targets
from tests.conformance.command_line import compiled, run
from tests.conformance.rule_text import LAST_RULE, UNORDERED_CHAINS, ChainName, ChainText, read_chains
from tests.oracle.compiling import (
    RandomInput,
    json_text,
    load,
    nft_listing_text,
    nft_script_text,
    options_of,
    random_input,
    restore_text,
    save_text,
    view_of,
    yaml_text,
)
from tests.oracle.manifests import Manifest, endpoint, endpoint_slice, many_endpoints, node, port, service

SEEDS = range(1000, 1020)
SIZES = (3, 10, 25)
SCALE_BITS = 31
OWN_PREFIXES = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-")

RENDERERS = {
    ProxyMode.IPTABLES: (restore_text, save_text),
    ProxyMode.NFTABLES: (nft_script_text, nft_listing_text),
}

by_seed = pytest.mark.parametrize("seed", SEEDS)


def outputs(given: RandomInput, *texts: str) -> list[str]:
    """Return the rules of ``texts``, with the options of ``given``, in both forms, families and modes."""
    cluster = load(*texts)
    found = []
    for mode, renderers in RENDERERS.items():
        is_iptables = mode is ProxyMode.IPTABLES
        options = options_of(cluster, local_addresses=given.addresses, nfacct=is_iptables, mode=mode)
        views = [build_view(cluster, options, family) for family in IpFamily]
        found += [render(view) for view in views for render in renderers]
    return found


class TestOrderOfInput:
    """Permuting objects, documents, files and keys changes no byte of the rules."""

    @by_seed
    def test_objects(self, seed: int) -> None:
        given = random_input(seed, SIZES)
        objects = [*given.objects, given.config]
        before = outputs(given, yaml_text(objects))
        rng = random.Random(seed)
        rng.shuffle(objects)
        assert outputs(given, yaml_text(objects)) == before
        assert outputs(given, json_text(objects)) == before

    @by_seed
    def test_keys_and_endpoints(self, seed: int) -> None:
        given = random_input(seed, SIZES)
        objects = [*given.objects, given.config]
        before = outputs(given, json_text(objects))
        rng = random.Random(seed)
        assert outputs(given, json_text([shuffled(item, rng) for item in objects])) == before

    @by_seed
    def test_files(self, seed: int) -> None:
        given = random_input(seed, SIZES)
        objects = [*given.objects, given.config]
        before = outputs(given, json_text(objects))
        rng = random.Random(seed)
        files: list[list[Manifest]] = [[] for _ in range(4)]
        for item in objects:
            rng.choice(files).append(item)
        assert outputs(given, *(yaml_text(file) for file in files if file)) == before

    def test_names_of_files_on_the_command_line(self, tmp_path: Path) -> None:
        given = random_input(1001, SIZES)
        objects = [*given.objects, given.config]
        for folder, order in (("a", objects), ("b", objects[::-1])):
            (tmp_path / folder).mkdir()
            for number, item in enumerate(order):
                (tmp_path / folder / f"{number:04}.yaml").write_text(yaml_text([item]))
        one = compiled(tmp_path / "a", "--node", "node1")
        assert compiled(tmp_path / "b", "--node", "node1") == one
        (tmp_path / "all.json").write_text(json_text(objects))
        assert compiled(tmp_path / "all.json", "--node", "node1") == one


def shuffled(value: Any, rng: random.Random) -> Any:
    """Return a copy with keys of mappings, and ports and endpoints of slices, in another order."""
    if isinstance(value, list):
        return [shuffled(item, rng) for item in value]
    if not isinstance(value, dict):
        return value
    keys = list(value)
    rng.shuffle(keys)
    made = {key: shuffled(value[key], rng) for key in keys}
    if made.get("kind") == "EndpointSlice":
        for field in ("ports", "endpoints"):
            rng.shuffle(made[field] or [])
    return made


class TestOneServiceMore:
    """Adding a Service changes its own chains and its lines in the dispatch chains, and nothing else."""

    @by_seed
    def test_nothing_else_changes(self, seed: int) -> None:
        given = random_input(seed, SIZES)
        chosen = random.Random(seed).choice([o for o in given.objects if o["kind"] == "Service"])
        without = [item for item in given.objects if not belongs_to(item, chosen)]
        before = views_of(given, without)
        after = views_of(given, given.objects)
        for old, new in zip(before, after, strict=True):
            assert_only_added(old, new, chosen)
        assert [restore_text(view) for view in views_of(given, without)] == [restore_text(v) for v in before]

    def test_crossing_the_threshold_takes_comments_away(self) -> None:
        objects = [node(), service(), endpoint_slice(endpoints=many_endpoints(999))]
        added = service("shop/small", "10.96.0.11")
        more = [*objects, added, endpoint_slice("shop/small", many_endpoints(2))]
        old, new = view_of(objects), view_of(more)
        assert (old.is_large_cluster, new.is_large_cluster) == (False, True)
        assert_only_added(old, new, added)


def views_of(given: RandomInput, objects: list[Manifest]) -> list[NodeView]:
    cluster = load(json_text([*objects, given.config]))
    options = options_of(cluster, local_addresses=given.addresses)
    return [build_view(cluster, options, family) for family in IpFamily]


def identity(item: Manifest) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def belongs_to(item: Manifest, owner: Manifest) -> bool:
    """Whether an object is a Service or one of its slices."""
    if item["kind"] == "Service":
        return identity(item) == identity(owner)
    if item["kind"] != "EndpointSlice":
        return False
    labels = item["metadata"].get("labels", {})
    return (item["metadata"]["namespace"], labels.get("kubernetes.io/service-name")) == identity(owner)


def assert_only_added(old: NodeView, new: NodeView, added: Manifest) -> None:
    before, after = read_chains(restore_text(old)), read_chains(restore_text(new))
    if old.is_large_cluster != new.is_large_cluster:
        before, after = without_comments(before), without_comments(after)
    else:
        name = "/".join(identity(added))
        of_service = re.compile(rf'--comment "?(?:masquerade traffic for )?{re.escape(name)}[: "]')
        for chain in UNORDERED_CHAINS:
            for key in ({("nat", chain), ("filter", chain)}) & after.keys():
                rules = after[key].rules
                kept = [rule for rule in rules if not of_service.search(rule)]
                assert kept == before[key].rules, key
        assert own_chains(new, added) == {key for key in after if key not in before}
    for key, chain_text in before.items():
        if key[1] not in UNORDERED_CHAINS:
            assert after[key] == chain_text
        else:
            assert is_subsequence(chain_text.rules, after[key].rules)


def without_comments(chains: dict[ChainName, ChainText]) -> dict[ChainName, ChainText]:
    strip = re.compile(r'-m comment --comment (?:"[^"]*"|\S+) ?')
    return {
        key: ChainText(text.policy, [strip.sub("", rule) for rule in text.rules])
        for key, text in chains.items()
    }


def is_subsequence(short: list[str], long: list[str]) -> bool:
    rest = iter(long)
    return all(any(item == other for other in rest) for item in short)


def own_chains(view: NodeView, owner: Manifest) -> set[ChainName]:
    """Return the chains of one Service that a view needs, named by the standard library's own means."""
    found: set[ChainName] = set()
    for item in view.services:
        if (item.port.name.namespace, item.port.name.service) == identity(owner):
            stem = str(item.port.name) + item.port.name.protocol.lower()
            wanted = {
                "KUBE-SVC-": item.balances_cluster,
                "KUBE-SVL-": item.balances_local,
                "KUBE-EXT-": item.is_reached_from_outside,
                "KUBE-FW-": item.is_firewalled,
            }
            found |= {("nat", prefix + hashed(stem)) for prefix, needed in wanted.items() if needed}
            found |= {("nat", "KUBE-SEP-" + hashed(stem + e.text)) for e in item.endpoints.reachable}
    return found


def hashed(text: str) -> str:
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode()[:16]


class TestNames:
    @by_seed
    def test_every_service_port_has_chains_by_its_hash_and_no_other(self, seed: int) -> None:
        given = random_input(seed, SIZES)
        for family in IpFamily:
            view = given.view(family)
            own = {name for o in given.objects if o["kind"] == "Service" for name in own_chains(view, o)}
            fixed = {"KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"}
            declared = [key for key in read_chains(restore_text(view)) if key[0] == "nat"]
            assert set(declared) == own | {("nat", name) for name in fixed}

    @by_seed
    def test_every_chain_of_a_service_is_reached(self, seed: int) -> None:
        for family in IpFamily:
            ruleset = parse_save(save_text(random_input(seed, SIZES).view(family)), family)
            chains = ruleset.tables["nat"].chains
            reached = {target for chain in chains.values() for target in targets(chain)}
            assert {name for name in chains if name.startswith(OWN_PREFIXES)} <= reached
            assert list(faults(ruleset)) == []


class TestShares:
    """Each endpoint's share of new connections, exactly, from the thresholds that the kernel compares."""

    @pytest.mark.parametrize("count", [*range(1, 40), 100, 255, 256, 1000])
    def test_shares_are_equal_within_the_kernels_measure(self, count: int) -> None:
        objects = [node(), service(), endpoint_slice(endpoints=many_endpoints(count))]
        view = view_of(objects)
        for text in (restore_text(view), save_text(view)):
            chain, *others = balancing_chains(parse_save(text, IpFamily.IPV4))
            assert not others
            assert len(assert_equal_shares(chain)) == count

    @by_seed
    def test_every_balancing_chain_of_a_cluster(self, seed: int) -> None:
        for family in IpFamily:
            restored, saved = (
                parse_save(render(random_input(seed, SIZES).view(family)), family)
                for render in (restore_text, save_text)
            )
            for chain in balancing_chains(restored):
                # What kube-proxy writes with ten digits and the kernel lists with eleven is one threshold.
                assert assert_equal_shares(chain) == draws(saved.tables["nat"].chains[chain.name])


def balancing_chains(ruleset: Ruleset) -> list[Chain]:
    chains = ruleset.tables["nat"].chains.values()
    return [chain for chain in chains if chain.name.startswith(("KUBE-SVC-", "KUBE-SVL-"))]


def draws(chain: Chain) -> list[tuple[str, int]]:
    """Return the rules that draw an endpoint, as target and threshold; certainty is ``1 << 31``."""
    found = []
    for rule in chain.rules:
        target = next(action.chain for action in rule.actions if isinstance(action, Jump))
        if target != "KUBE-MARK-MASQ" and not any(isinstance(match, Recent) for match in rule.matches):
            thresholds = [match.threshold for match in rule.matches if isinstance(match, Random)]
            found.append((target, thresholds[0] if thresholds else 1 << SCALE_BITS))
    return found


def assert_equal_shares(chain: Chain) -> list[tuple[str, int]]:
    """Check that the shares of n endpoints sum to 1, and that each is within n * 2**-31 of 1/n.

    The shares are numerators over one denominator, 2 ** (31 n): as fractions in lowest terms they would cost
    seconds for what needs no division.
    """
    found = draws(chain)
    count = len(found)
    whole = 1 << SCALE_BITS * count
    numerators = []
    left = whole
    for _, threshold in found:
        taken = left * threshold >> SCALE_BITS
        numerators.append(taken)
        left -= taken
    assert left == 0
    assert sum(numerators) == whole
    bound = Fraction(count, 1 << SCALE_BITS) * whole
    assert all(abs(Fraction(whole, count) - numerator) <= bound for numerator in numerators)
    return found


class TestLargeClusters:
    """Above 1000 endpoints, those without hope included, the rules of endpoints lose their comments."""

    @pytest.mark.parametrize("count, large", [(999, False), (1000, False), (1001, True)])
    @pytest.mark.parametrize("ready", [True, False])
    def test_threshold(self, count: int, large: bool, ready: bool) -> None:
        rest = many_endpoints(count - 1, ready=ready)
        small = [service("shop/small", "10.96.0.11"), endpoint_slice("shop/small", [endpoint("10.181.0.1")])]
        view = view_of([node(), service(), endpoint_slice(endpoints=rest), *small])
        assert view.endpoint_count == count
        assert view.is_large_cluster is large
        for name, chain in read_chains(restore_text(view)).items():
            if name[1].startswith("KUBE-SEP-"):
                assert any("--comment" in rule for rule in chain.rules) is not large
            elif name[1].startswith("KUBE-SVC-"):
                assert all("cluster IP" in rule for rule in chain.rules if "KUBE-MARK-MASQ" in rule)
                chosen = [rule for rule in chain.rules if "KUBE-SEP" in rule]
                assert any("--comment" in rule for rule in chosen) is not large

    def test_other_comments_stay(self) -> None:
        large = [service(), endpoint_slice(endpoints=many_endpoints(1000))]
        chosen = service("shop/out", "10.96.0.12", type="NodePort", ports=[port(nodePort=30080)])
        view = view_of([node(), *large, chosen, endpoint_slice("shop/out", [endpoint("10.181.0.1")])])
        text = restore_text(view)
        assert '"shop/out:http cluster IP"' in text
        assert "--comment shop/out:http -m tcp" in text
        assert "masquerade traffic for" in text

    def test_each_family_and_each_service_port_counts(self) -> None:
        """Duplicates count once, a slice of an unknown Service not at all, the other family for itself."""
        ports = [port(80, "a"), port(81, "b")]
        slices = [
            endpoint_slice(endpoints=many_endpoints(500), ports=[port(8080, "a"), port(8081, "b")]),
            endpoint_slice(endpoints=many_endpoints(20), ports=[port(8080, "a")], name="again"),
            endpoint_slice("shop/unknown", many_endpoints(600)),
        ]
        objects = [node(), service(ports=ports), *slices]
        assert view_of(objects).endpoint_count == 1000
        assert view_of(objects, IpFamily.IPV6).endpoint_count == 0


class TestConflicts:
    """Two claims on one address and port: reported, and the first by namespace and name stands first."""

    CLAIMS: tuple[tuple[str, Manifest, Manifest], ...] = (
        ("cluster IP", service("b/x", "10.96.0.10"), service("a/y", "10.96.0.10")),
        (
            "external IP",
            service("b/x", "10.96.0.10", externalIPs=["198.51.100.1"]),
            service("a/y", "10.96.0.11", externalIPs=["198.51.100.1"]),
        ),
        (
            "load balancer",
            service("b/x", "10.96.0.10", vips=["198.51.100.1"], type="LoadBalancer"),
            service("a/y", "10.96.0.11", vips=["198.51.100.1"], type="LoadBalancer"),
        ),
        (
            "external IP and load balancer",
            service("b/x", "10.96.0.10", externalIPs=["198.51.100.1"]),
            service("a/y", "10.96.0.11", vips=["198.51.100.1"], type="LoadBalancer"),
        ),
        (
            "node port",
            service("b/x", "10.96.0.10", type="NodePort", ports=[port(80, nodePort=30080)]),
            service("a/y", "10.96.0.11", type="NodePort", ports=[port(81, nodePort=30080)]),
        ),
    )

    @pytest.mark.parametrize("kind, one, other", CLAIMS, ids=[kind for kind, _, _ in CLAIMS])
    def test_reported_and_settled(self, kind: str, one: Manifest, other: Manifest) -> None:
        slices = [endpoint_slice("b/x"), endpoint_slice("a/y", [endpoint("10.180.0.2")])]
        seen = set()
        for order in ([one, other], [other, one]):
            view = view_of([node(), *order, *slices])
            problems = find_conflicts(view)
            assert len(problems) == 1, kind
            assert problems[0].code == ("KPN302" if kind == "node port" else "KPN301")
            assert problems[0].subject == "Service b/x:http"
            assert "a/y:http" in problems[0].message
            seen.add((restore_text(view), problems[0].subject, problems[0].hint))
        assert len(seen) == 1
        chain = "KUBE-NODEPORTS" if kind == "node port" else "KUBE-SERVICES"
        claimed = {"node port": "30080", "cluster IP": "10.96.0.10"}.get(kind, "198.51.100.1")
        rules = read_chains(seen.pop()[0])["nat", chain].rules
        owners = [rule for rule in rules if f" {claimed} " in rule and LAST_RULE not in rule]
        assert ["a/y" in rule for rule in owners] == [True, False]

    @pytest.mark.parametrize(
        "one, other",
        [
            (service("a/x", "10.96.0.10"), service("b/y", "10.96.0.10", ports=[port(81)])),
            (service("a/x", "10.96.0.10"), service("b/y", "10.96.0.10", ports=[port(80, protocol="UDP")])),
            (
                service("a/x", "10.96.0.10", type="NodePort", ports=[port(nodePort=30080)]),
                service("b/y", "10.96.0.11", type="NodePort", ports=[port(nodePort=30080, protocol="UDP")]),
            ),
            (
                service("a/x", "10.96.0.10", externalIPs=["198.51.100.1", "198.51.100.1"]),
                service("b/y", "10.96.0.11"),
            ),
        ],
        ids=["other port", "other protocol", "node port of another protocol", "one Service twice"],
    )
    def test_no_conflict(self, one: Manifest, other: Manifest) -> None:
        assert find_conflicts(view_of([node(), one, other])) == []

    def test_on_the_command_line(self, tmp_path: Path) -> None:
        _, one, other = self.CLAIMS[0]
        said = set()
        for name, order in (("1.yaml", [one, other]), ("2.yaml", [other, one])):
            path = tmp_path / name
            path.write_text(yaml_text([node(), *order]))
            status, out, err = run("--log-format", "json", "compile", path)
            assert status == 0
            record = json.loads(err.splitlines()[0])
            assert (record["code"], record["severity"]) == ("KPN301", "warning")
            assert record["line"]
            said.add((out, record["subject"]))
        assert len(said) == 1

    @by_seed
    def test_random_clusters_have_none(self, seed: int) -> None:
        """They are made without; so whatever is reported would be a false alarm."""
        given = random_input(seed, SIZES)
        assert all(find_conflicts(given.view(family)) == [] for family in IpFamily)


class TestOrigins:
    """In JSON, every rule of a Service names the Service's line in the manifest."""

    @pytest.mark.parametrize("seed", [1001, 1002, 1003])
    def test_lines(self, seed: int, tmp_path: Path) -> None:
        given = random_input(seed, SIZES)
        path = tmp_path / "cluster.yaml"
        path.write_text(yaml_text([*given.objects, given.config]))
        lines = path.read_text().splitlines()
        document = json.loads(compiled(path, "--node", "node1", "--form", "json"))
        with_origin: Counter[str] = Counter()
        for rule, chain in rules_in(document):
            origin = rule.get("origin")
            if chain.startswith(OWN_PREFIXES):
                assert origin is not None, rule
            if origin is None:
                continue
            assert origin["source"] == str(path)
            name = re.fullmatch(r"([^:]+)(:.+)?/(TCP|UDP|SCTP)", origin["subject"])
            assert name is not None
            assert service_at(lines, origin["line"]) == name[1]
            assert name[1] in rule["text"] or "--comment" not in rule["text"]
            with_origin[chain] += 1
        assert with_origin["KUBE-SERVICES"]
        assert not with_origin["KUBE-POSTROUTING"]

    def test_a_line_within_a_stream(self, tmp_path: Path) -> None:
        path = tmp_path / "cluster.yaml"
        path.write_text("# first\n\n---\n" + yaml_text([node(), service(), endpoint_slice()]))
        wanted = 1 + path.read_text()[: path.read_text().index("kind: Service\n")].count("\n")
        first = path.read_text().splitlines()[wanted - 2]
        document = json.loads(compiled(path, "--form", "json", "--family", "ipv4"))
        origins = {rule["origin"]["line"] for rule, _ in rules_in(document) if "origin" in rule}
        assert first == "apiVersion: v1"
        assert origins == {wanted - 1}


def rules_in(document: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """Return every rule of a JSON document with the name of its chain."""
    return [
        (rule, chain["name"])
        for ruleset in document["rulesets"]
        for table in ruleset["tables"]
        for chain in table["chains"]
        for rule in chain["rules"]
    ]


def service_at(lines: list[str], line: int) -> str:
    """Return namespace and name of the Service whose first key stands on a line."""
    end = next((i for i in range(line, len(lines)) if lines[i] == "---"), len(lines))
    text = "\n".join(lines[line - 1 : end])
    assert text.startswith("apiVersion: v1\nkind: Service\n")
    cluster = load(text)
    meta = cluster.services[0].value.metadata
    return f"{meta.namespace}/{meta.name}"


def test_compiling_leaves_the_objects_alone() -> None:
    """Views of one cluster are independent: compiling twice, in either order of families, gives the same."""
    given = random_input(1001, SIZES)
    first = [restore_text(given.view(family)) for family in IpFamily]
    again = [restore_text(given.view(family)) for family in reversed(IpFamily)]
    assert first == again[::-1]
    assert copy.deepcopy(given.objects) == given.objects
