"""Parsing scripts for ``nft -f`` as we write them: listings, and commands a line.

Other text of nft has more than these forms; for live tables there is ``nft_json_parse``.
"""

from __future__ import annotations

from collections.abc import Callable

from kproxy_nat.errors import Code, InvalidInputError, Location, Problem
from kproxy_nat.formats.nft_priorities import NAMED_PRIORITIES
from kproxy_nat.formats.nft_rule_parse import parse_duration, parse_element, parse_key, parse_rule
from kproxy_nat.formats.nft_tokens import NEW_LINE, Cursor, NftSyntaxError, Token, tokens_of
from kproxy_nat.net.addresses import IpFamily
from kproxy_nat.ruleset.nft_transactions import (
    AddChain,
    AddElement,
    AddRule,
    AddSet,
    AddTable,
    DeleteChain,
    DeleteElement,
    DeleteSet,
    DeleteTable,
    FlushChain,
    FlushSet,
    NftCommand,
    NftTableTransaction,
    evaluate_nft,
)
from kproxy_nat.ruleset.nft_values import key_types, transport_of
from kproxy_nat.ruleset.rules import BOTH_FAMILIES, NFT_FAMILIES, Hook, Table
from kproxy_nat.ruleset.sets import NamedSet
from kproxy_nat.ruleset.transactions import TransactionError

FAMILIES = (*NFT_FAMILIES.values(), BOTH_FAMILIES)
_OWNER_FLAGS = ("owner", "persist")
_SEPARATORS = (NEW_LINE, ";")


def parse_script(text: str, source: str = "nft script") -> list[NftTableTransaction]:
    """Return the commands of a script, of a listing also, in parts for one table each.

    Raises:
        InvalidInputError: the text is not as we write scripts.
    """
    parser = None
    try:
        parser = _ScriptParser(Cursor(tokens_of(text)))
        return parser.parse()
    except NftSyntaxError as error:
        raise InvalidInputError(_problem(error, text, source)) from None


def parse_tables(text: str, source: str = "nft script") -> list[Table]:
    """Return what a script, or a listing, makes of nothing.

    Raises:
        InvalidInputError: the text is not as we write scripts, or cannot be carried out.
    """
    parts = parse_script(text, source)
    try:
        return evaluate_nft(parts)
    except TransactionError as error:
        line = text.split("\n")[error.line - 1] if error.line else ""
        location = Location(source, error.line, 0, line)
        raise InvalidInputError(Problem(Code.RULES_UNKNOWN_CHAIN, error.message, location=location)) from None


def _problem(error: NftSyntaxError, text: str, source: str) -> Problem:
    lines = text.split("\n")
    if error.token is None:
        hint = "the text may have been cut off"
        location = Location(source, len(lines))
        return Problem(Code.RULES_UNFINISHED, error.message, location=location, hint=hint)
    token: Token = error.token
    location = Location(source, token.line, token.column, lines[token.line - 1])
    return Problem(Code.RULES_SYNTAX, error.message, location=location)


class _ScriptParser:
    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.parts: list[NftTableTransaction] = []

    def parse(self) -> list[NftTableTransaction]:
        self.cursor.skip(*_SEPARATORS)
        while self.cursor.token is not None:
            if self.cursor.accept("table"):
                self._table_block()
            else:
                self._command()
            self.cursor.skip(*_SEPARATORS)
        return self.parts

    def _part(self, *, anew: bool = False) -> NftTableTransaction:
        """Read a family and a table's name, and return the part to add commands to."""
        family = self.cursor.take(*FAMILIES)
        name = self.cursor.take()
        last = self.parts[-1] if self.parts and not anew else None
        if last is None or (last.family, last.table) != (family, name):
            last = NftTableTransaction(family, name)
            self.parts.append(last)
        return last

    def _add(self, part: NftTableTransaction, command: NftCommand, line: int) -> None:
        part.commands.append(command)
        part.lines.append(line)

    def _line(self) -> int:
        token = self.cursor.token
        return token.line if token is not None else 0

    # Commands, one a line.

    def _command(self) -> None:
        line = self._line()
        start = self.cursor.token
        verb = self.cursor.take("add", "flush", "delete")
        kind = self.cursor.take("table", "chain", "rule", "set", "map", "element")
        reader = _COMMANDS.get((verb, kind))
        if reader is None:
            raise NftSyntaxError(f"{verb} {kind} is no command that we write", start)
        part = self._part(anew=(verb, kind) == ("add", "table"))
        self._add(part, reader(self, part), line)
        if self.cursor.token is not None and self.cursor.peek() not in _SEPARATORS:
            self.cursor.fail("the command should end here")

    def add_table(self, _: NftTableTransaction) -> NftCommand:
        """Read the rest of ``add table``."""
        comment = ""
        if self.cursor.accept("{"):
            self.cursor.take("comment")
            comment = self.cursor.take_quoted()
            self.cursor.skip(";")
            self.cursor.take("}")
        return AddTable(comment)

    def add_chain(self, _: NftTableTransaction) -> NftCommand:
        """Read the rest of ``add chain``."""
        name = self.cursor.take()
        hook, comment, policy = None, "", None
        if self.cursor.accept("{"):
            hook, comment, policy = self._chain_properties()
            self.cursor.take("}")
        return AddChain(name, hook, comment, policy)

    def add_rule(self, part: NftTableTransaction) -> NftCommand:
        """Read the rest of ``add rule``."""
        return AddRule(self.cursor.take(), parse_rule(self.cursor, part.family))

    def add_set(self, _: NftTableTransaction) -> NftCommand:
        """Read the rest of ``add set`` or ``add map``."""
        return AddSet(self._set_block())

    def add_element(self, _: NftTableTransaction) -> NftCommand:
        """Read the rest of ``add element``."""
        name = self.cursor.take()
        self.cursor.take("{")
        element = parse_element(self.cursor, ())
        self.cursor.take("}")
        return AddElement(name, element)

    def delete_element(self, _: NftTableTransaction) -> NftCommand:
        """Read the rest of ``delete element``."""
        name = self.cursor.take()
        self.cursor.take("{")
        element = parse_element(self.cursor, ())
        self.cursor.take("}")
        return DeleteElement(name, element.key)

    def named(self, make: Callable[[str], NftCommand]) -> NftCommand:
        """Read the rest of a command that has nothing but a name."""
        return make(self.cursor.take())

    # Blocks, as in a listing.

    def _table_block(self) -> None:
        line = self._line()
        part = self._part(anew=True)
        position = len(part.commands)
        comment = ""
        self.cursor.take("{")
        self.cursor.skip(*_SEPARATORS)
        while not self.cursor.accept("}"):
            here = self._line()
            word = self.cursor.take("comment", "flags", "set", "map", "chain")
            if word == "comment":
                comment = self.cursor.take_quoted()
            elif word == "flags":
                self._owner_flags()
            elif word == "chain":
                self._chain_block(part, here)
            else:
                self._add(part, AddSet(self._set_block()), here)
            self.cursor.skip(*_SEPARATORS)
        part.commands.insert(position, AddTable(comment))
        part.lines.insert(position, line)

    def _owner_flags(self) -> None:
        """Read a table's flags that say whose it is; one that is dormant is another matter."""
        self.cursor.take(*_OWNER_FLAGS)
        while self.cursor.accept(","):
            self.cursor.take(*_OWNER_FLAGS)

    def _chain_block(self, part: NftTableTransaction, line: int) -> None:
        name = self.cursor.take()
        self.cursor.take("{")
        hook, comment, policy = self._chain_properties()
        self._add(part, AddChain(name, hook, comment, policy), line)
        while not self.cursor.accept("}"):
            if self.cursor.token is None:
                self.cursor.fail(f"chain {name} does not end")
            here = self._line()
            self._add(part, AddRule(name, parse_rule(self.cursor, part.family)), here)
            self.cursor.skip(*_SEPARATORS)

    def _chain_properties(self) -> tuple[Hook | None, str, str | None]:
        """Read hook, policy and comment of a chain, as far as they are there."""
        cursor = self.cursor
        hook, comment, policy = None, "", None
        cursor.skip(*_SEPARATORS)
        while cursor.peek() in ("type", "policy", "comment"):
            word = cursor.take()
            if word == "type":
                hook = self._hook()
            elif word == "policy":
                policy = cursor.take("accept", "drop").upper()
            else:
                comment = cursor.take_quoted()
            cursor.skip(*_SEPARATORS)
        return hook, comment, policy

    def _hook(self) -> Hook:
        cursor = self.cursor
        kind = cursor.take()
        cursor.take("hook")
        name = cursor.take()
        devices: tuple[str, ...] = ()
        if cursor.accept("device"):
            devices = (cursor.take_quoted(),)
        cursor.take("priority")
        return Hook(kind, name, self._priority(), devices)

    def _priority(self) -> int:
        name = self.cursor.peek()
        if name not in NAMED_PRIORITIES:
            return self.cursor.take_number()
        self.cursor.take()
        distance = 0
        if self.cursor.peek() in ("+", "-"):
            distance = self.cursor.take_number() if self.cursor.take() == "+" else -self.cursor.take_number()
        return NAMED_PRIORITIES[name] + distance

    def _set_block(self) -> NamedSet:
        cursor = self.cursor
        named = NamedSet(cursor.take(), ())
        cursor.take("{")
        cursor.skip(*_SEPARATORS)
        while not cursor.accept("}"):
            word = cursor.take(*_PROPERTIES)
            _PROPERTIES[word](self, named)
            cursor.skip(*_SEPARATORS)
        return named

    def set_types(self, named: NamedSet) -> None:
        """Read the types of keys, and of values in maps."""
        named.key_types = self._types()
        if self.cursor.accept(":"):
            named.value_types = self._types()

    def set_typeof(self, named: NamedSet) -> None:
        """Read expressions that have the types of keys, and of values in maps."""
        named.key_types = self._types_of_expressions(named)
        if self.cursor.accept(":"):
            named.value_types = self._types_of_expressions(named)

    def _types_of_expressions(self, named: NamedSet) -> tuple[str, ...]:
        is_ipv6 = self.cursor.peek() == "ip6"
        family = IpFamily.IPV6 if is_ipv6 else IpFamily.IPV4
        key = parse_key(self.cursor, NFT_FAMILIES[family])
        named.transport = named.transport or transport_of(key)
        return key_types(key, family)

    def _types(self) -> tuple[str, ...]:
        names = [self.cursor.take()]
        while self.cursor.accept("."):
            names.append(self.cursor.take())
        return tuple(names)

    def set_flags(self, named: NamedSet) -> None:
        """Read the flags."""
        flags = [self.cursor.take()]
        while self.cursor.accept(","):
            flags.append(self.cursor.take())
        named.flags = tuple(flags)

    def set_timeout(self, named: NamedSet) -> None:
        """Read the timeout."""
        named.timeout = parse_duration(self.cursor)

    def set_size(self, named: NamedSet) -> None:
        """Read the size."""
        named.size = self.cursor.take_number()

    def set_comment(self, named: NamedSet) -> None:
        """Read the comment."""
        named.comment = self.cursor.take_quoted()

    def set_elements(self, named: NamedSet) -> None:
        """Read the elements."""
        self.cursor.take("=")
        self.cursor.take("{")
        while True:
            element = parse_element(self.cursor, named.value_types)
            named.elements[element.key] = element
            if not self.cursor.accept(","):
                break
            self.cursor.skip(NEW_LINE)
        self.cursor.take("}")


_PROPERTIES: dict[str, Callable[[_ScriptParser, NamedSet], None]] = {
    "type": _ScriptParser.set_types,
    "typeof": _ScriptParser.set_typeof,
    "flags": _ScriptParser.set_flags,
    "timeout": _ScriptParser.set_timeout,
    "size": _ScriptParser.set_size,
    "comment": _ScriptParser.set_comment,
    "elements": _ScriptParser.set_elements,
}

_COMMANDS: dict[tuple[str, str], Callable[[_ScriptParser, NftTableTransaction], NftCommand]] = {
    ("add", "table"): _ScriptParser.add_table,
    ("delete", "table"): lambda _, __: DeleteTable(),
    ("add", "chain"): _ScriptParser.add_chain,
    ("add", "rule"): _ScriptParser.add_rule,
    ("add", "set"): _ScriptParser.add_set,
    ("add", "map"): _ScriptParser.add_set,
    ("add", "element"): _ScriptParser.add_element,
    ("delete", "element"): _ScriptParser.delete_element,
    ("flush", "chain"): lambda parser, _: parser.named(FlushChain),
    ("delete", "chain"): lambda parser, _: parser.named(DeleteChain),
    ("flush", "set"): lambda parser, _: parser.named(FlushSet),
    ("delete", "set"): lambda parser, _: parser.named(DeleteSet),
}
