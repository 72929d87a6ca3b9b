"""Reading all tables of nftables in a namespace, whoever they belong to."""

from __future__ import annotations

from kproxy_nat.apply.nft_standby import STANDBY
from kproxy_nat.apply.running import run_tool
from kproxy_nat.apply.tools import Tool, install_hint
from kproxy_nat.errors import ApplyError, Code, Problem
from kproxy_nat.ruleset.rules import NFT_FAMILIES, TABLE_ORDER

IPTABLES_LABELS = frozenset(f"{family} {name}" for family in NFT_FAMILIES.values() for name in TABLE_ORDER)
"""The tables in which the nf_tables variant of iptables keeps its rules."""
STANDBY_LABELS = frozenset(f"{family} {STANDBY}" for family in NFT_FAMILIES.values())
"""The tables that stand while rules are changed, and are none of what was applied."""

_DENIED = "Operation not permitted"


def list_ruleset(nft: Tool) -> str:
    """Return what ``nft list ruleset`` prints in the namespace of the calling thread.

    Raises:
        ApplyError: nft refuses.
    """
    done = run_tool([nft.path, "list", "ruleset"], "", (), install_hint("nft"))
    if done.returncode == 0:
        return done.stdout
    said = done.stderr.strip().partition("\n")[0] or f"it ended with status {done.returncode}"
    if _DENIED in said:
        raise ApplyError(Problem(Code.NOT_PERMITTED, f"nft: {said}", hint="run as root"))
    hint = "kproxy-nat doctor tells what the kernel lacks"
    raise ApplyError(Problem(Code.RULES_REFUSED, said, subject="nft", hint=hint))
