"""``services``, ``endpoints`` and ``nodes``: as kubectl shows objects, and as they can be kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kproxy_nat.net.addresses import IpFamily
from tests.cli.conftest import Run
from tests.conformance import command_line
from tests.golden.gallery import GALLERY, TOPICS, rule_text

STEP = GALLERY / "tutorial/2-nodeport"
BALANCER = """\
apiVersion: v1
kind: Service
metadata: {name: lb}
spec: {type: LoadBalancer, ports: [{port: 80}, {port: 53, name: dns, protocol: UDP}], selector: {a: b, c: d}}
""".replace("{port: 80}", "{port: 80, name: web}")
DUMPED = """\
apiVersion: v1
kind: Service
metadata: {name: a, namespace: shop, uid: 1-2, annotations: {note: "yes"}, creationTimestamp: null}
spec:
  type: LoadBalancer
  loadBalancerClass: example.com/x
  clusterIP: 10.96.0.9
  clusterIPs: [10.96.0.9]
  ipFamilies: [IPv4]
  ipFamilyPolicy: SingleStack
  externalIPs: [192.0.2.7]
  ports: [{name: web, port: 80, targetPort: http, nodePort: 31000, appProtocol: kubernetes.io/h2c}]
status: {loadBalancer: {ingress: [{ip: 203.0.113.5}, {hostname: lb.example.com}]}}
"""


def columns(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("   ") if cell.strip()]


def shown(run: Run, *arguments: str, stdin: str = "") -> list[list[str]]:
    result = run(*arguments, stdin=stdin)
    assert result.status == 0, result.err
    return [columns(line) for line in result.out.splitlines()]


def documents(text: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(text))


def test_services_look_as_with_kubectl(run: Run) -> None:
    assert shown(run, "services", str(STEP)) == [
        ["NAMESPACE", "NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"],
        ["datarc", "datarc", "NodePort", "10.105.237.19", "<none>", "80:32600/TCP", "<unknown>"],
    ]


def test_wide_services_have_selectors(run: Run) -> None:
    header, row = shown(run, "services", "-", "-o", "wide", stdin=BALANCER)
    assert header[-1] == "SELECTOR"
    assert row[-1] == "a=b,c=d"
    assert row[4] == "<pending>"


def test_addresses_of_load_balancers_are_cut_in_the_narrow_table(run: Run) -> None:
    narrow, wide = (shown(run, "services", "-", *o, stdin=DUMPED)[1] for o in ((), ("-o", "wide")))
    assert narrow[4] == "203.0.113.5,l...,192.0.2.7"
    assert wide[4] == "203.0.113.5,lb.example.com,192.0.2.7"


def test_headless_and_external_names(run: Run) -> None:
    text = (
        "apiVersion: v1\nkind: Service\nmetadata: {name: h}\nspec: {clusterIP: None}\n---\n"
        "apiVersion: v1\nkind: Service\nmetadata: {name: x}\n"
        "spec: {type: ExternalName, externalName: a.example}\n"
    )
    rows = shown(run, "services", "-", stdin=text)[1:]
    assert rows == [
        ["default", "h", "ClusterIP", "None", "<none>", "<none>", "<unknown>"],
        ["default", "x", "ExternalName", "<none>", "a.example", "<none>", "<unknown>"],
    ]


def test_columns_are_aligned(run: Run) -> None:
    lines = run("services", "-", stdin=f"{BALANCER}---\n{DUMPED}").out.splitlines()
    for title in ("NAME", "TYPE", "CLUSTER-IP", "AGE"):
        at = lines[0].index(f" {title}") + 1
        assert all(line[at - 1] == " " and line[at] != " " for line in lines)


def test_endpoints_look_as_with_kubectl(run: Run) -> None:
    header, row = shown(run, "endpoints", str(STEP))
    assert header == ["NAMESPACE", "NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"]
    assert row[2:] == ["IPv4", "8080", "10.244.1.246,10.244.2.220", "<unknown>"]


def test_many_endpoints_are_cut_but_not_in_wide(run: Run) -> None:
    text = (STEP / "manifests.yaml").read_text().replace("replicas: 2", "replicas: 5")
    narrow, wide = (shown(run, "endpoints", "-", *o, stdin=text)[1] for o in ((), ("-o", "wide")))
    assert narrow[4].endswith(" + 2 more...")
    assert wide[4].count(",") == 4
    assert wide[6:] == ["datarc", "5/5", "node-1,node-2"]


def test_a_service_that_selects_nothing_has_an_empty_slice(run: Run) -> None:
    row = shown(run, "endpoints", "-", stdin=BALANCER)[1]
    assert row[2:5] == ["IPv4", "<unset>", "<unset>"]


def test_nodes(run: Run) -> None:
    rows = shown(run, "nodes", str(STEP), "-o", "wide")
    assert rows[1][:2] == ["node-1", "Ready"]
    assert rows[1][-2:] == ["zone-a", "10.244.1.0/24,fd00:10:244:1::/64"]


def test_nothing_to_show_is_said(run: Run) -> None:
    result = run("nodes", "-", stdin=DUMPED)
    assert (result.status, result.out) == (0, "")
    assert result.err == "kproxy-nat: no resources found\n"


def test_what_was_typed_is_kept_and_what_was_open_is_filled_in(run: Run) -> None:
    (one,) = documents(run("services", "-", "-o", "yaml", stdin=BALANCER).out)
    spec = one["spec"]
    node_ports = [port.pop("nodePort") for port in spec["ports"]]
    assert len(set(node_ports)) == 2
    assert spec["ports"] == [
        {"port": 80, "name": "web", "protocol": "TCP", "targetPort": 80},
        {"port": 53, "name": "dns", "protocol": "UDP", "targetPort": 53},
    ]
    assert spec.pop("clusterIPs") == [spec.pop("clusterIP")]
    del spec["ports"]
    assert spec == {
        "type": "LoadBalancer",
        "selector": {"a": "b", "c": "d"},
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "externalTrafficPolicy": "Cluster",
        "allocateLoadBalancerNodePorts": True,
    }
    assert one["status"] == {"loadBalancer": {}}


def test_fields_that_no_rule_depends_on_are_kept(run: Run) -> None:
    (one,) = documents(run("services", "-", "-o", "yaml", stdin=DUMPED).out)
    assert one["metadata"] == {"name": "a", "namespace": "shop", "uid": "1-2", "annotations": {"note": "yes"}}
    assert one["spec"]["loadBalancerClass"] == "example.com/x"
    assert one["spec"]["ports"][0]["appProtocol"] == "kubernetes.io/h2c"
    ingress = one["status"]["loadBalancer"]["ingress"]
    assert ingress == [{"ip": "203.0.113.5", "ipMode": "VIP"}, {"hostname": "lb.example.com"}]


def test_defaults_that_depend_on_other_fields(run: Run) -> None:
    head = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n"
    affine = f"{head}spec: {{sessionAffinity: ClientIP, ports: [{{port: 80}}]}}\n"
    (one,) = documents(run("services", "-", "-o", "yaml", stdin=affine).out)
    assert one["spec"]["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}
    assert "externalTrafficPolicy" not in one["spec"]
    named = f"{head}spec: {{type: ExternalName, externalName: a.example}}\n"
    (one,) = documents(run("services", "-", "-o", "yaml", stdin=named).out)
    assert one["spec"] == {"type": "ExternalName", "externalName": "a.example", "sessionAffinity": "None"}


def test_derived_slices_make_up_no_identities(run: Run) -> None:
    """An owner needs a uid, and a time of change is a cluster's own."""
    (one,) = documents(run("endpoints", str(STEP), "-o", "yaml").out)
    assert set(one["metadata"]) == {"name", "namespace", "labels"}
    assert one["metadata"]["name"].startswith("datarc-")


@pytest.mark.parametrize("text", [*"y n yes 0x1f 1e3 010 1_000 null 1:30".split(), "", "a: b", "- x"])
def test_texts_stay_texts(text: str, run: Run) -> None:
    labels = json.dumps({"value": text})
    out = run("services", "-", "-o", "yaml", stdin=BALANCER.replace("{a: b, c: d}", labels)).out
    line = next(line for line in out.splitlines() if line.strip().startswith("value:"))
    assert line.strip() == f"value: {json.dumps(text)}"
    again = run("services", "-", "-o", "yaml", stdin=out).out
    assert again == out


def test_json_is_a_list_with_what_was_assumed(run: Run) -> None:
    found = json.loads(run("services", str(STEP), "-o", "json").out)
    assert (found["apiVersion"], found["kind"]) == ("v1", "List")
    assert [one["metadata"]["name"] for one in found["items"]] == ["datarc"]
    assert "clusterIP 10.105.237.19" in [one["text"] for one in found["assumptions"]]


def test_json_of_complete_objects_assumes_nothing(run: Run) -> None:
    assert "assumptions" not in json.loads(run("services", "-", "-o", "json", stdin=DUMPED).out)


def kept(topic: str, folder: Path, form: str) -> None:
    for command in ("services", "endpoints", "nodes"):
        status, out, err = command_line.run("-q", command, GALLERY / topic, "-o", form)
        assert status == 0, err
        if out.strip():
            (folder / f"{command}.{form}").write_text(out)


@pytest.mark.parametrize("topic", TOPICS)
def test_objects_kept_as_manifests_give_the_same_rules(topic: str, tmp_path: Path) -> None:
    """All but the configuration, which is not an object of a cluster, is read from what was kept."""
    form = "json" if len(topic) % 2 else "yaml"
    kept(topic, tmp_path, form)
    configs = [
        one
        for one in documents((GALLERY / topic / "manifests.yaml").read_text())
        if one["kind"] == "KubeProxyConfiguration"
    ]
    (tmp_path / "configuration.yaml").write_text(yaml.safe_dump_all(configs) or "# none\n")
    node = ("--node", "node-1") if "tutorial/" in topic else ()
    for family in IpFamily:
        options = ("--family", family.lower(), "--controlplane", "off", *node)
        assert command_line.compiled(tmp_path, *options) == rule_text(topic, family)
