"""Every id that an input can lead to: exit status, place, message and help, through the whole command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kproxy_nat.errors import Code
from tests.cli.conftest import Run
from tests.cli.test_controlplane import CASES as CONTROLPLANE_CASES

SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.96.0.10
  ports:
  - port: 80
"""
NODE = "apiVersion: v1\nkind: Node\nmetadata: {name: %s}\n"
CONFIG = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
ENDPOINTS = "apiVersion: v1\nkind: Endpoints\nmetadata: {name: web, namespace: shop}\n"
BOMB = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(8)
)


def prepare() -> None:
    """Write the files that the table below refers to."""
    Path("web.yaml").write_text(SERVICE)
    Path("empty").mkdir()
    Path("loop.yaml").symlink_to("other.yaml")
    Path("other.yaml").symlink_to("loop.yaml")
    Path("cd").mkdir()
    Path("cd/loop.yaml").symlink_to("loop.yaml")
    Path("broken.json").write_text('{"kind": }')
    Path("big.yaml").write_bytes(b"#" * ((1 << 20) + 1))


CASES: dict[Code, tuple[list[str], str, str]] = {
    Code.SOURCE_NOT_FOUND: (["web.yml"], "", "web.yml: no such file or directory"),
    Code.SOURCE_UNREADABLE: (["cd"], "", "cd/loop.yaml: Too many levels of symbolic links"),
    Code.SOURCE_TOO_LARGE: (
        ["big.yaml", "--max-input-mib", "1"],
        "",
        "big.yaml: the input is larger than 1 MiB",
    ),
    Code.SOURCE_EMPTY: (["-"], "# nothing\n", "stdin: the input is empty"),
    Code.SOURCE_NOT_TEXT: (["-"], "a: \0\n", "stdin:1: not text: it holds NUL bytes"),
    Code.DIRECTORY_WITHOUT_MANIFESTS: (["empty"], "", "empty: the directory holds no manifests"),
    Code.NOT_A_MANIFEST: (["-"], "*nat\nCOMMIT\n", "stdin:1: this is a rule file, not a manifest"),
    Code.OUTPUT_UNWRITABLE: (
        ["web.yaml", "-o", "gone/x"],
        "",
        "gone/x: cannot write: No such file or directory",
    ),
    Code.YAML_SYNTAX: (["-"], "a: b: c\n", "stdin:1:5: this YAML is broken: mapping values are not allowed"),
    Code.JSON_SYNTAX: (["broken.json"], "", "broken.json:1:10: this JSON is broken: Expecting value"),
    Code.DUPLICATE_KEY: (["-"], "a: 1\na: 2\n", "stdin:2:1: key 'a' is there twice"),
    Code.ALIAS_EXPANSION: (["-"], BOMB, "stdin:5:4: aliases expand to more than 1,000,000 nodes"),
    Code.WRONG_TYPE: (
        ["-"],
        SERVICE.replace("80", "http"),
        "stdin:7:11: Service shop/web: spec.ports[0].port must be a whole number, not a text",
    ),
    Code.MISSING_FIELD: (
        ["-"],
        SERVICE.replace("name: web, ", ""),
        "stdin:3:1: Service: metadata.name is missing",
    ),
    Code.PORT_RANGE: (
        ["-"],
        SERVICE.replace("80", "70000"),
        "stdin:7:11: Service shop/web: port 70000 is not between 1 and 65535",
    ),
    Code.BAD_ADDRESS: (
        ["-"],
        SERVICE.replace("10.96.0.10", "10.96.0"),
        "stdin:5:14: Service shop/web: '10.96.0' is not an IP address",
    ),
    Code.BAD_CIDR: (
        ["-"],
        CONFIG + "clusterCIDR: 10.0.0.0\n",
        "stdin:3:14: KubeProxyConfiguration: '10.0.0.0' is not a CIDR: the prefix length is missing",
    ),
    Code.FAMILY_MISMATCH: (
        ["-"],
        SERVICE + "  ipFamilies: [IPv6]\n",
        "stdin:5:14: Service shop/web: cluster IP 10.96.0.10 is IPv4, but ipFamilies says IPv6",
    ),
    Code.BAD_NAME: (
        ["-"],
        SERVICE.replace("name: web", "name: Web"),
        "stdin:3:18: Service shop/Web: name 'Web' is not valid",
    ),
    Code.UNSUPPORTED_VALUE: (
        ["-"],
        CONFIG + "mode: ipvs\n",
        "stdin:3:7: KubeProxyConfiguration: mode ipvs cannot be compiled",
    ),
    Code.DUPLICATE_OBJECT: (
        ["-"],
        f"{SERVICE}---\n{SERVICE}",
        "stdin:11:18: Service shop/web: it is there twice; first at stdin:1",
    ),
    Code.DUPLICATE_PORT: (
        ["-"],
        SERVICE + "    name: a\n  - {port: 80, name: b}\n",
        "stdin:9:12: Service shop/web: port 80/TCP is there twice",
    ),
    Code.UNKNOWN_FIELD: (
        ["-"],
        CONFIG + "clusterCidr: x\n",
        "stdin:3:14: KubeProxyConfiguration: kube-proxy has no field clusterCidr",
    ),
    Code.OUT_OF_RANGE: (
        ["-"],
        CONFIG + "iptables: {masqueradeBit: 32}\n",
        "stdin:3:27: KubeProxyConfiguration: masqueradeBit 32 is not between 0 and 31",
    ),
    Code.INCONSISTENT: (
        ["-"],
        SERVICE + "  clusterIPs: [10.96.0.11]\n",
        "stdin:8:16: Service shop/web: clusterIPs begins with 10.96.0.11, but clusterIP is 10.96.0.10",
    ),
    Code.UNKNOWN_KIND: (
        ["-", "--strict"],
        "apiVersion: v1\nkind: Pod\n",
        "stdin:2:7: kind Pod of v1 has no part in Service rules",
    ),
    Code.NODE_NOT_FOUND: (["-", "--node", "node9"], NODE % "node1", "the input has no Node node9"),
    Code.NODE_AMBIGUOUS: (
        ["-"],
        f"{NODE % 'node2'}---\n{NODE % 'node1'}",
        "the input has 2 Nodes, and rules are one node's view",
    ),
    Code.CONFIG_AMBIGUOUS: (
        ["-"],
        f"{CONFIG}---\n{CONFIG}",
        "stdin:5:7: a second KubeProxyConfiguration; the first is at stdin:1",
    ),
    Code.BAD_OPTION: (
        ["web.yaml", "--detect-local-mode", "BridgeInterface"],
        "",
        "--detect-local-mode: detect-local mode BridgeInterface needs --bridge-interface",
    ),
    Code.SERVICE_CONFLICT: (
        ["-"],
        f"{SERVICE}---\n{SERVICE.replace('web', 'web2')}",
        "stdin:13:14: Service shop/web2: 10.96.0.10:80/TCP is claimed by shop/web, too (stdin:1), which gets",
    ),
    Code.NODE_PORT_CONFLICT: (
        ["-"],
        f"{SERVICE}    nodePort: 30080\n---\n{SERVICE.replace('web', 'web2').replace('0.10', '0.11')}    nodePort: 30080\n",  # noqa: E501
        "Service shop/web2: nodePort 30080/TCP is claimed by shop/web, too (stdin:1), which gets the traffic",
    ),
    Code.NOT_MIRRORED: (
        ["-"],
        ENDPOINTS,
        "stdin:3:18: Endpoints shop/web: not mirrored into EndpointSlices, and so not used: there is no Service",  # noqa: E501
    ),
    Code.ENDPOINTS_WITHOUT_RULES: (
        ["-"],
        f"{ENDPOINTS}---\n{SERVICE.replace('10.96.0.10', 'None')}",
        "stdin:3:18: Endpoints shop/web: its Service is headless, so no rule leads to these addresses",
    ),
    Code.NO_CLUSTER_IP: (
        ["-", "--controlplane", "off"],
        SERVICE.replace("  clusterIP: 10.96.0.10\n", ""),
        "stdin:4:1: Service shop/web: it has no clusterIP, so it yields no rules",
    ),
}
WARNINGS = {
    Code.UNKNOWN_FIELD,
    Code.SERVICE_CONFLICT,
    Code.NODE_PORT_CONFLICT,
    Code.NOT_MIRRORED,
    Code.ENDPOINTS_WITHOUT_RULES,
    Code.NO_CLUSTER_IP,
}


def test_every_id_that_manifests_lead_to_is_in_the_table() -> None:
    others = {code for code in Code if code.name.startswith("RULES_") or code >= "KPN5"}
    others |= set(CONTROLPLANE_CASES)
    others |= {Code.SUBMODULE, Code.LEVEL_UNAVAILABLE, Code.FAMILIES_DIFFER, Code.NO_SERVICES_TO_READ}
    assert set(CASES) == set(Code) - others


@pytest.mark.parametrize("code", CASES, ids=[code.value for code in CASES])
def test_each_problem_is_told_with_id_place_and_message(code: Code, run: Run) -> None:
    args, stdin, message = CASES[code]
    run("--version")
    prepare()
    result = run("compile", *args, stdin=stdin)
    head = result.err.splitlines()[0]
    severity = "warning" if code in WARNINGS else "error"
    assert head.startswith(f"kproxy-nat: {severity}[{code}]: ")
    assert message in head
    assert result.status == (0 if code in WARNINGS else 1 if code is Code.OUTPUT_UNWRITABLE else 3)
    assert bool(result.out) is (code in WARNINGS)
    assert "Traceback" not in result.err


HINTS = {
    Code.SOURCE_NOT_FOUND: "did you mean web.yaml?",
    Code.NODE_NOT_FOUND: "give --node one of: node1",
    Code.NODE_AMBIGUOUS: "give --node one of: node1, node2",
    Code.CONFIG_AMBIGUOUS: "keep one of them, or name one with --config",
    Code.UNKNOWN_FIELD: "did you mean clusterCIDR?",
    Code.UNSUPPORTED_VALUE: "give --mode iptables or --mode nftables to see the rules of that mode",
    Code.SOURCE_TOO_LARGE: "split it, or raise the limit with --max-input-mib",
    Code.DUPLICATE_KEY: "keep one of them",
    Code.ALIAS_EXPANSION: "write out what is meant",
}


@pytest.mark.parametrize("code", HINTS, ids=[code.value for code in HINTS])
def test_help_says_what_to_do(code: Code, run: Run) -> None:
    args, stdin, _ = CASES[code]
    prepare()
    assert f"  help: {HINTS[code]}\n" in run("compile", *args, stdin=stdin).err


# --- hostile names

HOSTILE = [
    'web" -j ACCEPT',
    "web -j ACCEPT",
    "web\n-A INPUT -j ACCEPT",
    "web\r\nCOMMIT",
    "web\0",
    "web'",
    "web\\",
    "web\x1b[31m",
    "wéb",
    "ｗｅｂ",  # noqa: RUF001
    "web\u2028x",
    "w" * 300,
    "web ",
    "-web",
    "$(reboot)",
    "web;x",
    "WEB",
]
SLICE = """{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
"metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
"endpoints": [{"addresses": ["10.1.0.1"], "nodeName": "n1", "hints": {"forZones": [{"name": "z"}]}}],
"ports": [{"port": 8080, "name": "http"}]}"""
OBJECTS = {
    "service": json.loads(
        """{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"clusterIP": "10.96.0.10", "type": "NodePort", "sessionAffinity": "None",
        "ports": [{"port": 80, "name": "http", "protocol": "TCP", "nodePort": 30080, "targetPort": "t"}],
        "externalIPs": ["192.0.2.1"], "loadBalancerSourceRanges": ["10.0.0.0/8"], "selector": {"a": "b"}},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.2", "hostname": "h", "ipMode": "VIP"}]}}}"""
    ),
    "slice": json.loads(SLICE),
    "node": json.loads(
        """{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1",
        "labels": {"topology.kubernetes.io/zone": "z"}}, "spec": {"podCIDR": "10.1.0.0/24"},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.168.0.1"}]}}"""
    ),
    "config": json.loads(
        """{"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
        "clusterCIDR": "10.1.0.0/16", "mode": "iptables", "hostnameOverride": "n1",
        "detectLocalMode": "BridgeInterface", "bindAddress": "192.168.0.1",
        "detectLocal": {"bridgeInterface": "br0", "interfaceNamePrefix": "veth"},
        "nodePortAddresses": ["10.0.0.0/8"]}"""
    ),
}


def texts(data: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the paths of all texts in ``data``."""
    if isinstance(data, dict):
        return [found for key, value in data.items() for found in texts(value, (*path, key))]
    if isinstance(data, list):
        return [found for number, value in enumerate(data) for found in texts(value, (*path, number))]
    return [path] if isinstance(data, str) else []


PLACES = [
    (name, path)
    for name, data in OBJECTS.items()
    for path in texts(data)
    if path[0] not in ("apiVersion", "kind")
]
MUST_BE_REFUSED = {
    ("service", ("metadata", "name")),
    ("service", ("metadata", "namespace")),
    ("service", ("spec", "ports", 0, "name")),
    ("slice", ("metadata", "name")),
    ("slice", ("metadata", "namespace")),
    ("slice", ("ports", 0, "name")),
    ("node", ("metadata", "name")),
    ("config", ("detectLocal", "bridgeInterface")),
    ("config", ("detectLocal", "interfaceNamePrefix")),
}


def with_value(name: str, path: tuple[str | int, ...], value: str) -> str:
    objects = json.loads(json.dumps(OBJECTS))
    target = objects[name]
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects.values())})


def test_the_objects_are_good_without_hostile_text(run: Run) -> None:
    assert run("compile", "-", stdin=with_value("service", ("metadata", "name"), "web")).status == 0
    assert set(PLACES) >= MUST_BE_REFUSED


@pytest.mark.parametrize("name, path", PLACES, ids=[".".join(map(str, (n, *p))) for n, p in PLACES])
def test_hostile_text_never_reaches_a_rule(name: str, path: tuple[str | int, ...], run: Run) -> None:
    for hostile in HOSTILE:
        for form in ("save", "restore"):
            result = run("compile", "-", "--form", form, stdin=with_value(name, path, hostile))
            assert result.status in (0, 3), result.err
            interface_may = path[0] == "detectLocal" and hostile == "WEB"
            assert interface_may or hostile not in result.out
            assert "-j ACCEPT" not in result.out.replace("-j MARK", "").split("KUBE-FORWARD -m comment")[0]
            assert result.status == 0 or result.out == ""
            if (name, path) in MUST_BE_REFUSED and not interface_may:
                assert result.status == 3, hostile
    assert "\x1b" not in result.err


def test_with_exclude_the_rest_is_compiled(run: Run) -> None:
    other = SERVICE.replace("web", "other").replace("0.10", "0.11")
    bad = SERVICE.replace("name: web", "name: 'web -j ACCEPT'")
    result = run("compile", "-", "--on-error", "exclude", stdin=f"{bad}---\n{other}---\na: [\n")
    assert result.status == 0
    assert "shop/other" in result.out
    assert "web" not in result.out
    assert result.err.count("error[") == 2
    assert "left out because of 2 errors; the rest is compiled" in result.err
    assert run("compile", "-", stdin=other).out == result.out


def test_all_problems_of_all_sources_are_told_at_once(run: Run) -> None:
    Path("a.yaml").write_text(SERVICE.replace("80", "0"))
    Path("b.yaml").write_text("a: [\n")
    result = run("compile", "a.yaml", "b.yaml", "c.yaml", "-", stdin=b"\xff\xfe")
    assert result.status == 3
    assert result.out == ""
    assert [line.split("[")[1][:6] for line in result.err.splitlines() if "error[" in line] == [
        "KPN001",
        "KPN004",
        "KPN103",
        "KPN010",
    ]


@pytest.mark.parametrize("text", ["apiVersion: v1\nkind: Service\nspec: &a [*a]\n", "a: &a [*a]\n"])
def test_an_anchor_within_itself_is_no_bug(text: str, run: Run) -> None:
    assert run("compile", "-", stdin=text).status == 3


@pytest.mark.parametrize(
    "spec", ["{type: ExternalName, clusterIP: x}", "{clusterIP: x, clusterIPs: [None], ports: [{port: 1}]}"]
)
def test_a_bad_cluster_ip_of_a_service_without_rules_is_no_bug(spec: str, run: Run) -> None:
    text = f"apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec: {spec}\n"
    assert run("compile", "-", stdin=text).status in (0, 3)


def test_a_stream_of_json_objects_is_compiled_whole(run: Run) -> None:
    one = '{"apiVersion":"v1","kind":"Service","metadata":{"name":"%s"},"spec":{"clusterIP":"10.0.0.%d","ports":[{"port":80}]}}\n'  # noqa: E501
    result = run("compile", "-", stdin=one % ("a", 1) + one % ("b", 2))
    assert "default/a" in result.out
    assert "default/b" in result.out
