"""YAML by a fast parser, where that parser certainly means the same as kubectl.

yaml-rs reads YAML 1.2, fifty times faster than PyYAML. A text in which 1.2 and kubectl's rules could differ
(octal numbers, ``yes`` and ``no``, tags, anchors, directives, ...) is recognised by its look and left to
``yaml_nodes``; a false alarm costs time, never meaning.
"""

from __future__ import annotations

import re
from typing import Any

import yaml_rs

_SCALARS = "|".join(
    (
        "yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF",  # booleans of YAML 1.1
        r"[-+]?0[0-9_]+(?:\.[0-9_]*)?|[-+]?0[ob][0-9_]+",  # octal, or an integer that is not
        r"[-+]0[xX][0-9a-fA-F]+",
        r"[-+]?[0-9][0-9_]*_[0-9_.]*|[-+]?_+[0-9][0-9_.]*",
        r"[-+]?[0-9._]+[eE][-+]?[0-9]+",
        r"[-+]?\.[iInN][nNaAfF]+",
        r"[-+.]?[0-9]{300,}.*",  # beyond the range of numbers
    )
)
_ENDS = r"[ \t]*(?=$|[,\]}:#])"
# One pattern for each way in which a scalar can begin: a fixed first character, no backtracking over blanks,
# and a look at the next character make them quick.
_SCALAR_PATTERNS = [
    re.compile(rf"{start}(?=[-+._0-9yYnNoO])(?:{_SCALARS}){_ENDS}", re.MULTILINE)
    for start in (r":[ \t]++", r"[\"']:[ \t]*+", r"-[ \t]++", r"\n[ ]*+", r"[\[{,][ \t]*+")
]
_TAGS_AND_ANCHORS = re.compile(r"(?:^|[ \t\[{,:-])(?:[&*]\w|!)", re.MULTILINE)
_DEEP = re.compile(r"^[ ?:-]{150}|(?:[?:-][ ]+){50}", re.MULTILINE)
_CONTROL = re.compile(r"[\x01-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_RARE = ("\t", "\n%", "\n?", " ? ", " ?\n", "?:", "[?", "{?", ",?", "<<")
_EMPTY_BLOCK_AT_END = re.compile(r"[|>][-+0-9]*[ \t]*(?:#.*)?\n(?:[ \t]*(?:#.*)?\n?)*\Z")
_TAIL = 200
_HINTS_OF_DEPTH = ("- -", "-  ", ": :", ":  ", "- :", ": -", " " * 100)


def _may_differ(text: str) -> bool:
    """Tell by looks whether the parsers might read ``text`` differently: cheap tests first."""
    text = "\n" + text
    return (
        any(rare in text for rare in _RARE)
        or (any(c in text for c in "&*!") and _TAGS_AND_ANCHORS.search(text) is not None)
        or any(pattern.search(text) for pattern in _SCALAR_PATTERNS)
        or (any(hint in text for hint in _HINTS_OF_DEPTH) and _DEEP.search(text) is not None)
        or _CONTROL.search(text) is not None
        or _EMPTY_BLOCK_AT_END.search(text[-_TAIL:]) is not None
    )


def _has_text_keys(data: Any) -> bool:
    """Tell whether all keys are text: numbers, booleans and collections as keys are for the exact reader."""
    remaining = [data]
    while remaining:
        node = remaining.pop()
        if isinstance(node, dict):
            for key, value in node.items():
                if type(key) is not str:
                    return False
                if type(value) is dict or type(value) is list:
                    remaining.append(value)
        elif isinstance(node, list):
            remaining += [item for item in node if type(item) is dict or type(item) is list]
    return True


def load_fast(text: str) -> tuple[bool, Any]:
    """Return ``(True, data)`` of one YAML document, or ``(False, None)`` where it takes the exact reader.

    Broken text is left to the exact reader too, whose messages are better.
    """
    if _may_differ(text):
        return False, None
    try:
        data = yaml_rs.loads(text, parse_datetime=False)
    except (yaml_rs.YAMLDecodeError, RecursionError, TypeError, ValueError):
        return False, None
    return (True, data) if _has_text_keys(data) else (False, None)
