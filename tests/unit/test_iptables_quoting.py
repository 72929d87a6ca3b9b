"""Words as iptables-save prints them, as kube-proxy writes them, and as iptables-restore splits them."""

from __future__ import annotations

import pytest

from kproxy_nat.formats.iptables_quoting import QuotingError, restore_word, save_word, split_words


@pytest.mark.parametrize(
    ("text", "saved", "restored"),
    [
        ("plain_word-1", "plain_word-1", "plain_word-1"),
        ("-j", "-j", '"-j"'),
        ("!", '"!"', '"!"'),
        ("", '""', '""'),
        ("default/web:http", '"default/web:http"', "default/web:http"),
        ("two words", '"two words"', '"two words"'),
        ('say "hi"', '"say \\"hi\\""', '"say \\"hi\\""'),
        ("it's", '"it\\\'s"', '"it\\\'s"'),
        ("a\\b", '"a\\\\b"', '"a\\\\b"'),
        ("tab\there", '"tab\there"', '"tab\there"'),
        ("größe", '"größe"', "größe"),
        ("\u0663", '"\u0663"', "\u0663"),
    ],
)
def test_a_word_in_both_styles(text: str, saved: str, restored: str) -> None:
    assert save_word(text) == saved
    assert restore_word(text) == restored


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("", []),
        (" \t ", []),
        ("-A INPUT", ["-A", "INPUT"]),
        ("-A\tINPUT  -j\t ACCEPT ", ["-A", "INPUT", "-j", "ACCEPT"]),
        ('"-A" "INPUT"', ["-A", "INPUT"]),
        ('""', [""]),
        ('pre"quoted part"', ["prequoted part"]),
        ("it's", ["it's"]),
        ("a\\b", ["a\\b"]),
        ('"a\\b"', ["ab"]),
        ('"a\\\\b"', ["a\\b"]),
        ('"a\\"b"', ['a"b']),
        ("a\vb\u00a0c\u2028d", ["a\vb\u00a0c\u2028d"]),
    ],
)
def test_a_line_is_split_at_blanks_outside_quotes(line: str, values: list[str]) -> None:
    assert [word.value for word in split_words(line)] == values


@pytest.mark.parametrize(
    ("line", "values"),
    [('"a""b"', ["a", "b"]), ('"a"b', ["a", "b"]), ('a"b c"d', ["ab c", "d"]), ('"ACC"EPT', ["ACC", "EPT"])],
)
def test_a_closing_quote_ends_the_word(line: str, values: list[str]) -> None:
    assert [word.value for word in split_words(line)] == values


@pytest.mark.parametrize("line", ['"', '-A "INPUT', '"a\\"', 'a b"c d'])
def test_a_quote_that_does_not_end_is_refused(line: str) -> None:
    with pytest.raises(QuotingError):
        split_words(line)


def test_words_know_where_they_stand() -> None:
    line = '  -A "IN PUT"\t-j x'
    assert [line[word.start : word.end] for word in split_words(line)] == ["-A", '"IN PUT"', "-j", "x"]
