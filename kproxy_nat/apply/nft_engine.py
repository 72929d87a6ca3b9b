"""The engine that speaks through ``nft``: our tables of nftables, read as JSON, written as scripts."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

from kproxy_nat.apply.changes import FamilyChange
from kproxy_nat.apply.engine import Loading, Unprepared
from kproxy_nat.apply.nft_script import nft_removal, nft_script, nft_standby
from kproxy_nat.apply.nft_standby import standing_by
from kproxy_nat.apply.running import RuleRefusedError, refused_line, run_tool
from kproxy_nat.apply.tools import Tool, install_hint, version_text
from kproxy_nat.errors import ApplyError, Code, InvalidInputError, Problem
from kproxy_nat.formats.iptables_dump import Dump, DumpedTable
from kproxy_nat.formats.nft_dump import chain_block, dump_tables, find_comments, join_listing
from kproxy_nat.formats.nft_json_parse import parse_nft_json
from kproxy_nat.formats.nft_words import NotWritableError
from kproxy_nat.lowering.nftables_names import TABLE
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.rules import NFT_FAMILIES, Chain, Table

_ABSENT = "No such file or directory"
_DENIED = "Operation not permitted"
_BUSY = "Device or resource busy"
_FAILED_LINE = re.compile(r"^/dev/stdin:(\d+):", re.MULTILINE)
_FLAGS = re.compile(r'"table": \{[^{}]*"flags": ')
"""A table with flags, in JSON; nft 1.0.6 prints whatever is in memory for their names, or stops there."""
_HEAD = 1000
"""Characters within which a listing names its table."""
_HEADER = re.compile(r"type \w+ hook |comment \"")
_BUSY_WAIT = 3.0
"""Seconds to wait for chains to be released; see :func:`nft_removal`."""
_PAUSE = 0.1


class NftEngine:
    """See :class:`kproxy_nat.apply.engine.Engine`; the rules of other tables are neither read nor written.

    Args:
        tool: the program.
        inherited: open files that the tool gets, too: a lock in them lasts while it runs, even when the
            caller was killed.
    """

    def __init__(self, tool: Tool, inherited: Sequence[int] = ()) -> None:
        self._tool = tool
        self._inherited = inherited

    @property
    def description(self) -> str:
        """See :class:`Engine`."""
        return f"nft {version_text(self._tool.version)}"

    def save(self, family: IpFamily, *, counters: bool) -> str:
        """Return our table in the form of ``formats.nft_dump``.

        Without ``counters``, which there are none of, comments of objects may be missing: that is cheaper.
        """
        tables = self._tables(family)
        try:
            dump = dump_tables(tables, family, self._block)
        except NotWritableError as error:
            message = f"cannot read table {TABLE}: {error}"
            hint = "somebody else has changed it; remove what was added there"
            raise ApplyError(Problem(Code.RULES_REFUSED, message, subject="nft", hint=hint)) from None
        return join_listing(self._with_comments(dump) if counters else dump)

    def test(self, change: FamilyChange) -> None:
        """See :class:`Engine`."""
        self._load(nft_script(change), "--check")

    def exclusive(self, wait: int | None = None) -> AbstractContextManager[None]:
        """See :class:`Engine`. There is no lock; each transaction is atomic."""
        return nullcontext()

    def begin(self, family: IpFamily, table: str, chains: Sequence[str]) -> None:
        """See :class:`Engine`."""

    def prepare(self, change: FamilyChange) -> Loading:
        """See :class:`Engine`. A script that is cut short could be a valid one, so the tool gets it whole."""
        return Unprepared(partial(self._load_all, change))

    def _load_all(self, change: FamilyChange) -> None:
        with standing_by(self._tool.path, nft_standby(change), self._inherited):
            self._load(nft_script(change))
        self._remove(nft_removal(change))

    def _tables(self, family: IpFamily) -> list[Table]:
        done = self._nft("-j", "list", "table", NFT_FAMILIES[family], TABLE)
        if done.returncode and _ABSENT in done.stderr:
            return []
        if done.returncode:
            raise self._refusal(done, "")
        if _FLAGS.search(done.stdout, 0, _HEAD):
            raise _has_flags(f"{NFT_FAMILIES[family]} {TABLE}")
        try:
            return parse_nft_json(done.stdout)
        except InvalidInputError as error:
            message = f"cannot read table {TABLE}: {error.problems[0].message}"
            hint = "kproxy-nat doctor lists versions with known faults"
            raise ApplyError(Problem(Code.RULES_REFUSED, message, subject="nft", hint=hint)) from None

    def _block(self, chain: Chain, table: Table) -> str:
        """Return the lines of a chain; rules of others that only nft can put in words are put so by it."""
        try:
            return chain_block(chain, table)
        except NotWritableError:
            done = self._nft("list", "chain", table.family, table.name, chain.name)
            lines = [line.removeprefix("\t\t") for line in done.stdout.splitlines()[2:-2]]
            head = chain_block(Chain(chain.name, [], chain.policy, hook=chain.hook), table)
            return head + "".join(f"{line}\n" for line in lines if not _HEADER.match(line))

    def _with_comments(self, dump: Dump) -> Dump:
        """Return the dump with the comments that only text has."""
        tables: dict[str, DumpedTable] = {}
        for name, table in dump.tables.items():
            done = self._nft("--terse", "list", "table", NFT_FAMILIES[dump.family], name)
            tables[name] = replace(table, comments=find_comments(done.stdout))
        return Dump(dump.family, tables)

    def _load(self, script: str, *arguments: str) -> None:
        if script:
            done = self._nft(*arguments, "--file", "-", text=script)
            if done.returncode:
                raise self._refusal(done, script)

    def _remove(self, script: str) -> None:
        deadline = time.monotonic() + _BUSY_WAIT
        while script:
            done = self._nft("--file", "-", text=script)
            if done.returncode == 0:
                return
            if _BUSY not in done.stderr or time.monotonic() > deadline:
                raise self._refusal(done, script)
            time.sleep(_PAUSE)

    def _nft(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return run_tool([self._tool.path, *arguments], text, self._inherited, install_hint("nft"))

    def _refusal(self, done: subprocess.CompletedProcess[str], script: str) -> ApplyError:
        said = next((line for line in done.stderr.splitlines() if "rror: " in line), "").strip()
        said = said.partition("rror: ")[2] or f"it ended with status {done.returncode}"
        if _DENIED in done.stderr:
            return ApplyError(Problem(Code.NOT_PERMITTED, f"nft: {said}", hint="run as root"))
        rule = refused_line(_FAILED_LINE, done.stderr, script)
        hint = f"the line is: {rule}" if rule else "kproxy-nat doctor tells what the kernel lacks"
        return RuleRefusedError(Problem(Code.RULES_REFUSED, said, subject="nft", hint=hint), rule)


def _has_flags(table: str) -> ApplyError:
    message = f"table {table} has flags; while it is dormant, none of its rules is in force"
    hint = f"wake it with: nft add table {table}"
    return ApplyError(Problem(Code.RULES_REFUSED, message, subject="nft", hint=hint))
