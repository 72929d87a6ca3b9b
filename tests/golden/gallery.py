"""The gallery in rules/: its topics, and the script that writes its rule files, as a module."""

from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path
from types import ModuleType

from kproxy_nat.net.addresses import IpFamily

ROOT = Path(__file__).resolve().parents[2]
GALLERY = ROOT / "rules"
RULE_FILES = {IpFamily.IPV4: "iptables.rules", IpFamily.IPV6: "ip6tables.rules"}
COMPACT_FILES = {IpFamily.IPV4: "iptables-compact.rules", IpFamily.IPV6: "ip6tables-compact.rules"}
NFT_FILE = "nftables.nft"
COMPACT_NFT_FILE = "nftables-compact.nft"
STEPS = sorted(f"tutorial/{path.parent.name}" for path in GALLERY.glob("tutorial/*/manifests.yaml"))
TOPICS = sorted([*(path.parent.name for path in GALLERY.glob("*/manifests.yaml")), *STEPS])


def load_script() -> ModuleType:
    """Return ``scripts/regenerate-rules``, which has no suffix that Python would know it by."""
    loader = importlib.machinery.SourceFileLoader("regenerate_rules", str(ROOT / "scripts/regenerate-rules"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def rule_text(topic: str, family: IpFamily) -> str:
    """Return a rule file of a topic."""
    return (GALLERY / topic / RULE_FILES[family]).read_text()


def nft_text(topic: str) -> str:
    """Return the nftables file of a topic."""
    return (GALLERY / topic / NFT_FILE).read_text()


def compact_text(topic: str, family: IpFamily) -> str:
    """Return a rule file of a topic in the compact layout."""
    return (GALLERY / topic / COMPACT_FILES[family]).read_text()


def compact_nft_text(topic: str) -> str:
    """Return the nftables file of a topic in the compact layout."""
    return (GALLERY / topic / COMPACT_NFT_FILE).read_text()
