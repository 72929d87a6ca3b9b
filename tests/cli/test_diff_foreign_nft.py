"""Listings of nft with tables of others: compared word for word, and never taken for Services."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest

from kproxy_nat.errors import InvalidInputError
from kproxy_nat.formats.nft_listing import join_listing, split_listing
from kproxy_nat.formats.nft_objects import parse_listed_rule
from kproxy_nat.formats.nft_rule_files import NftRules, load_nft
from kproxy_nat.formats.nft_shown import shown_rule
from kproxy_nat.ruleset.actions import OpaqueAction
from tests.conformance.command_line import run
from tests.corpus import HERE
from tests.golden.gallery import GALLERY, NFT_FILE

LISTINGS = sorted((HERE / "nft").glob("*.nft"))
JSON = HERE / "nft" / "firewalld.json"
OURS = (GALLERY / "external-policy-local" / NFT_FILE).read_text()
by_listing = pytest.mark.parametrize("path", LISTINGS, ids=lambda path: path.stem)


def parse_everything(rules: NftRules) -> None:
    for label in rules.listed:
        for kind, name in rules.keys(label):
            found = rules.chain(label, name) if kind == "chain" else rules.named_set(label, name)
            assert found is not None or kind not in ("chain", "set", "map")


def test_the_corpus_is_there() -> None:
    assert {path.stem for path in LISTINGS} >= {
        "docker-iptables",
        "calico-iptables",
        "firewalld",
        "ufw-iptables",
    }


@by_listing
def test_nothing_is_lost_or_changed(path: Path) -> None:
    """Rules that we would not write are kept word for word; of others, the spelling may be another one."""
    rules = load_nft(path.read_text())
    assert split_listing(join_listing(rules.listed)) == list(rules.listed.values())
    for label, table in rules.listed.items():
        for (kind, name), body in table.blocks.items():
            chain = rules.chain(label, name) if kind == "chain" else None
            lines = [line.strip() for line in body.splitlines()]
            listed = [line for line in lines if not line.startswith(("type ", "comment "))]
            for rule, line in zip(chain.rules, listed, strict=True) if chain else ():
                opaque = [action.text for action in rule.actions if isinstance(action, OpaqueAction)]
                assert opaque == [line] or parse_listed_rule(shown_rule(rule, table.family), "ip") == rule


@by_listing
def test_it_does_not_differ_from_itself(path: Path) -> None:
    for level in ("structural", "text"):
        status, out, err = run("diff", path, path, "--level", level)
        assert (status, err) == (0, "")
        assert out in ("", "no difference\n")


@pytest.mark.parametrize("later", ["identity-1.1.3.txt", "identity-1.1.3.json"])
def test_the_spelling_of_a_later_nft_is_no_difference(later: str) -> None:
    for sides in (
        (GALLERY / "identity.nft", HERE / "nft" / later),
        (HERE / "nft" / later, GALLERY / "identity.nft"),
    ):
        assert run("diff", *sides) == (0, "no difference\n", "")


@by_listing
def test_one_rule_more_is_one_edit(path: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed.nft"
    changed.write_text(with_rule(path.read_text(), "tcp dport 4242 limit rate 1/second accept"))
    status, out, _ = run("diff", path, changed)
    assert status == 1
    assert out.startswith("rules: 1 added, 0 removed\n")
    assert "      + tcp dport 4242 limit rate 1/second accept\n" in out
    assert run("diff", path, changed, "--scope", "ours")[0] == 0


def with_rule(listing: str, rule: str) -> str:
    """Return a listing with a rule at the end of its last base chain."""
    head, policy, rest = listing.rpartition("; policy accept;\n")
    return f"{head}{policy}\t\t{rule}\n{rest}"


@by_listing
def test_it_has_no_services(path: Path, tmp_path: Path) -> None:
    status, out, err = run("diff", path, path, "--level", "service")
    assert (status, out) == (3, "")
    assert "--level structural compares any rules" in err
    status, out, err = run("import", path)
    assert (status, out) == (3, "")
    assert "of no layout that Services can be read out of" in err


def test_services_of_iptables_are_to_be_given_as_iptables_prints_them(tmp_path: Path) -> None:
    listed = tmp_path / "listed.nft"
    listed.write_text(
        "table ip nat {\n\tchain KUBE-SERVICES {\n\t\tcounter packets 3 bytes 7 return\n\t}\n}\n"
    )
    _, _, err = run("diff", listed, listed, "--level", "service")
    assert "give what iptables-save prints" in err


@by_listing
def test_beside_ours_it_is_foreign(path: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old.nft", tmp_path / "new.nft"
    old.write_text(OURS + path.read_text())
    new.write_text(OURS + with_rule(path.read_text(), "tcp dport 4242 accept"))
    status, out, _ = run("diff", old, new)
    assert status == 0
    assert "1 rule that is not ours differs: --level structural shows them" in out


def test_figures_and_handles_are_no_difference(tmp_path: Path) -> None:
    path, other = HERE / "nft" / "firewalld.nft", tmp_path / "other.nft"
    text = path.read_text().replace("packets 0 bytes 0", "packets 12 bytes 3456")
    text = text.replace(" timeout 1h expires 59m", " timeout 1h expires 12m")
    lines = (f"{line} # handle 7" if "accept" in line else line for line in text.split("\n"))
    other.write_text("\n".join(lines))
    assert run("diff", path, other)[0] == 0


def test_json_of_others_is_compared(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(JSON.read_text().replace('"right": 546', '"right": 547'))
    assert run("diff", JSON, JSON)[0] == 0
    status, out, _ = run("diff", JSON, other, "--level", "structural")
    assert status == 1
    assert "udp dport 547" in out
    assert run("diff", JSON, other, "--level", "text")[0] == 1


@pytest.mark.parametrize("seed", range(40))
def test_damage_never_breaks_a_reader(seed: int) -> None:
    """What is cut off or mixed up is refused, or read as far as it has the form of a listing."""
    rng = random.Random(seed)
    text = rng.choice([OURS, *(path.read_text() for path in LISTINGS), JSON.read_text()])
    for _ in range(rng.randrange(1, 4)):
        text = damaged(text, rng)
    with contextlib.suppress(InvalidInputError):
        parse_everything(load_nft(text))


def damaged(text: str, rng: random.Random) -> str:
    at, other = sorted((rng.randrange(len(text)), rng.randrange(len(text))))
    return rng.choice([text[:at], text[:at] + text[other:], text[:at] + rng.choice('{}\n"#\t,') + text[at:]])


@pytest.mark.parametrize("seed", range(8))
def test_a_listing_that_is_cut_off_is_refused(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.nft"
    text = OURS[: random.Random(seed).randrange(200, len(OURS) - 2)]
    path.write_text(text)
    status, out, err = run("diff", path, path)
    whole = text.rstrip("\n").endswith("\n}")
    assert status == (0 if whole else 3)
    assert whole or ("KPN" in err and out == "")


def test_a_script_of_others_is_refused_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "nftables.conf"
    path.write_text("#!/usr/sbin/nft -f\nflush ruleset\ntable inet filter {\n  chain input { }\n}\n")
    status, _, err = run("diff", path, path)
    assert status == 3
    assert "as nft list ruleset prints them" in err
