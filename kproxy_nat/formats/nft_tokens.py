"""Text of nft as tokens, and a cursor upon them."""

from __future__ import annotations

import re
from typing import NamedTuple, NoReturn

NEW_LINE = "\n"
_TOKEN = re.compile(
    r'(?P<quoted>"[^"\n]*")|(?P<mark>[{};,\n])|(?P<word>[^\s{};,"#]+)|(?P<blank>[ \t\r]+|#.*)'
)

_NUMBER = re.compile(r"-?\d{1,20}|0x[0-9a-fA-F]{1,16}", re.ASCII)


class Token(NamedTuple):
    """A word, a quoted text (without its quotes), a mark of punctuation, or a line's end."""

    text: str
    line: int
    column: int
    is_quoted: bool = False


class NftSyntaxError(Exception):
    """Text that is not as we write it; ``token`` is where it was noticed, ``None`` at the text's end."""

    def __init__(self, message: str, token: Token | None) -> None:
        super().__init__(message)
        self.message = message
        self.token = token


def tokens_of(text: str) -> list[Token]:
    """Return the tokens of a text.

    Raises:
        NftSyntaxError: a quote does not end in its line.
    """
    found = []
    line, line_start, position = 1, 0, 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        column = position - line_start + 1
        if match is None:
            _fail(text, position, Token(text[position], line, column))
        if match.lastgroup == "quoted":
            found.append(Token(match[0][1:-1], line, column, is_quoted=True))
        elif match.lastgroup != "blank":
            found.append(Token(match[0], line, column))
        position = match.end()
        if match[0] == NEW_LINE:
            line, line_start = line + 1, position
    return found


def _fail(text: str, position: int, here: Token) -> NoReturn:
    """Raise an error: no token begins here. In the last line, a quote that does not end may be cut off."""
    if here.text != '"':
        raise NftSyntaxError("the character cannot be read here", here)
    raise NftSyntaxError("a quote is not closed", here if NEW_LINE in text[position:] else None)


class Cursor:
    """A place among tokens."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._position = 0

    @property
    def token(self) -> Token | None:
        """The token here; ``None`` at the end."""
        return self._tokens[self._position] if self._position < len(self._tokens) else None

    def peek(self, ahead: int = 0) -> str:
        """Return the text of a word here or ahead; empty at the end and for quoted text."""
        position = self._position + ahead
        token = self._tokens[position] if position < len(self._tokens) else None
        return "" if token is None or token.is_quoted else token.text

    def fail(self, message: str) -> NoReturn:
        """Raise an error at this place."""
        raise NftSyntaxError(message, self.token)

    def take(self, *wanted: str) -> str:
        """Return the word here and go on; with ``wanted`` it has to be one of these."""
        text = self.peek()
        if not text or (wanted and text not in wanted):
            expected = " or ".join(wanted) or "a word"
            self.fail(f"expected {expected}, found {self._shown()}")
        self._position += 1
        return text

    def accept(self, *wanted: str) -> bool:
        """Go past these words if they stand here."""
        if any(self.peek(ahead) != word for ahead, word in enumerate(wanted)):
            return False
        self._position += len(wanted)
        return True

    def take_quoted(self) -> str:
        """Return the quoted text here and go on."""
        token = self.token
        if token is None or not token.is_quoted:
            self.fail(f"expected a quoted text, found {self._shown()}")
        self._position += 1
        return token.text

    def take_any(self) -> str:
        """Return a word or a quoted text, and go on."""
        token = self.token
        return self.take_quoted() if token is not None and token.is_quoted else self.take()

    def take_number(self) -> int:
        """Return a number, decimal or hexadecimal, and go on."""
        text = self.peek()
        if not _NUMBER.fullmatch(text):
            self.fail(f"expected a number, found {self._shown()}")
        self._position += 1
        return int(text, 16) if text.startswith("0x") else int(text)

    def skip(self, *marks: str) -> None:
        """Go past all of these marks."""
        while self.peek() in marks:
            self._position += 1

    def is_at_end(self) -> bool:
        """Tell whether a statement ends here."""
        token = self.token
        return token is None or (not token.is_quoted and token.text in (NEW_LINE, ";", "}"))

    def _shown(self) -> str:
        token = self.token
        if token is None:
            return "the end of the text"
        return "the end of the line" if token.text == NEW_LINE else repr(token.text)
