"""The engines of a namespace, and how to get along without those whose tools are not there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kproxy_nat.apply.backends import Backend
from kproxy_nat.apply.engine import Engine
from kproxy_nat.apply.namespaces import Namespace
from kproxy_nat.apply.nft_engine import NftEngine
from kproxy_nat.apply.python_iptables_engine import PythonIptablesEngine
from kproxy_nat.apply.restore_engine import RestoreEngine
from kproxy_nat.apply.tools import IptablesTools, Tool, Variant, find_iptables, find_tool, require_tool
from kproxy_nat.errors import ApplyError, Code
from kproxy_nat.proxy.options import ProxyMode


@dataclass(frozen=True, slots=True)
class Tools:
    """What is installed for a namespace.

    Attributes:
        iptables: one variant, or why there is none.
        nft: ``None`` where it is not there.
    """

    iptables: IptablesTools | ApplyError
    nft: Tool | None

    @property
    def variant(self) -> Variant | None:
        """The variant of iptables, if there is one."""
        return self.iptables.variant if isinstance(self.iptables, IptablesTools) else None


@dataclass(frozen=True, slots=True)
class Engines:
    """The engine of each mode.

    Attributes:
        iptables: or why there is none.
        nftables: ``None`` where the tool is not there.
    """

    iptables: Engine | ApplyError
    nftables: Engine | None

    def of(self, mode: ProxyMode) -> Engine:
        """Return the engine for the rules of a mode.

        Raises:
            ApplyError: what it needs is not there.
        """
        if mode is ProxyMode.NFTABLES:
            if self.nftables is None:
                require_tool("nft")
            assert self.nftables is not None
            return self.nftables
        if isinstance(self.iptables, ApplyError):
            raise self.iptables
        return self.iptables

    def backends(self) -> list[Backend]:
        """Return the backends that can be read and written here."""
        usable = {ProxyMode.IPTABLES: not isinstance(self.iptables, ApplyError)}
        usable[ProxyMode.NFTABLES] = self.nftables is not None
        return [backend for backend in Backend if usable[backend.mode]]


def find_tools(namespace: Namespace, variant: Variant | None) -> Tools:
    """Return the tools for a namespace.

    Raises:
        ApplyError: this very variant was asked for, and is not there.
    """
    return Tools(namespace.run(_iptables, variant), namespace.run(find_tool, "nft"))


def engines_for(
    tools: Tools, wait: int, inherited: Sequence[int] = (), *, in_process: bool = False
) -> Engines:
    """Return engines that speak through these tools.

    Args:
        tools: what is there.
        wait: seconds to wait for the lock of the legacy tools.
        inherited: open files that the tools get, too: a lock in them lasts while they run.
        in_process: whether legacy tables are read and written without the tools.

    Raises:
        ApplyError: the library for work in process is not there.
    """
    nftables = NftEngine(tools.nft, inherited) if tools.nft else None
    if isinstance(tools.iptables, ApplyError):
        return Engines(tools.iptables, nftables)
    if in_process and tools.iptables.variant is Variant.LEGACY:
        return Engines(PythonIptablesEngine(wait), nftables)
    return Engines(RestoreEngine(tools.iptables, wait, inherited), nftables)


def _iptables(variant: Variant | None) -> IptablesTools | ApplyError:
    try:
        return find_iptables(variant)
    except ApplyError as error:
        if variant is not None or error.problems[0].code is not Code.TOOL_MISSING:
            raise
        return error
