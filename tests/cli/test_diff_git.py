"""diff with a real git: revisions as sources, and diff as a textconv, difftool and external diff."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.golden.gallery import GALLERY

PAIR = GALLERY / "diffs" / "endpoint-added"
RULES = GALLERY / "diffs" / "rules-endpoint-removed"
Git = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """Make a repository where one stands, with a command ``kproxy-nat`` in PATH; return git."""
    tools = tmp_path / "tools"
    tools.mkdir()
    command = tools / "kproxy-nat"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kproxy_nat "$@"\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_PAGER", "cat")
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "A")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "a@example.com")
    repository = tmp_path / "repository"
    repository.mkdir()
    monkeypatch.chdir(repository)

    def call(*arguments: str, status: int = 0) -> str:
        done = subprocess.run(("git", *arguments), capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        return done.stdout

    call("init", "-q", "-b", "main")
    return call


def commit(git: Git, source: Path, path: str) -> None:
    """Commit a file."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(source.read_text())
    git("add", "-A")
    git("commit", "-q", "-m", path)


@pytest.fixture
def history(run: Run, git: Git) -> Git:
    """Two revisions of manifests in a folder; ``run`` comes first, as it changes the folder, too."""
    commit(git, PAIR / "old.yaml", "k8s/web.yaml")
    commit(git, PAIR / "new.yaml", "k8s/web.yaml")
    return git


class TestRevisions:
    def test_two_revisions_of_a_folder(self, run: Run, history: Git) -> None:
        result = run("diff", "git:HEAD~1:k8s/", "git:HEAD:k8s")
        assert result.status == 1
        assert "    + endpoint 10.180.2.6:8080, gets 1/3  git:HEAD:k8s/web.yaml:48\n" in result.out
        assert run("diff", "git:HEAD~1:k8s/", "git:main^:k8s/").status == 0
        assert run("diff", "git:HEAD:k8s/web.yaml", "k8s").status == 0

    def test_what_is_not_committed_is_not_in_the_revision(self, run: Run, history: Git) -> None:
        Path("k8s/web.yaml").write_text((PAIR / "old.yaml").read_text())
        assert run("diff", "git:HEAD:k8s/", "k8s/").status == 1
        assert run("diff", "git:HEAD~1:k8s/", "k8s/").status == 0

    def test_every_command_reads_revisions(self, run: Run, history: Git) -> None:
        result = run("compile", "git:HEAD~1:k8s/")
        assert result.status == 0
        assert result.out == run("compile", str(PAIR / "old.yaml")).out

    def test_paths_are_those_of_git_itself(
        self, run: Run, history: Git, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir("k8s")
        for path in ("k8s/web.yaml", "./web.yaml", ".", "../k8s", "/k8s"):
            assert run("diff", f"git:HEAD:{path}", "web.yaml").status == 0, path
        assert run("diff", "git:HEAD:web.yaml", "web.yaml").status == 3
        assert run("diff", "git:HEAD", "web.yaml", "-R").status == 0

    def test_folders_below_need_recursion(self, run: Run, history: Git) -> None:
        result = run("compile", "git:HEAD")
        assert result.status == 3
        assert "they are in folders below it: add -R" in result.err
        assert run("compile", "git:HEAD", "-R").status == 0

    def test_a_renamed_file_is_the_same_objects(self, run: Run, history: Git) -> None:
        history("mv", "k8s/web.yaml", "k8s/shop.yaml")
        history("commit", "-q", "-m", "rename")
        assert run("diff", "git:HEAD~1:k8s/", "git:HEAD:k8s/").status == 0

    def test_rule_files_of_a_revision(self, run: Run, git: Git) -> None:
        commit(git, RULES / "old.rules", "node.rules")
        commit(git, RULES / "new.rules", "node.rules")
        result = run("diff", "git:HEAD~1:node.rules", "node.rules")
        assert "- endpoint 10.180.2.6:8080, had 1/3" in result.out

    def test_a_submodule_is_named_and_not_read(self, run: Run, history: Git, tmp_path: Path) -> None:
        other = tmp_path / "other"
        subprocess.run(["git", "clone", "-q", ".", str(other)], check=True)
        history("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other), "k8s/vendored")
        history("commit", "-q", "-m", "submodule")
        result = run("compile", "git:HEAD:k8s")
        assert result.status == 0
        assert "KPN009" in result.err
        result = run("compile", "git:HEAD:k8s/vendored")
        assert "is a submodule" in result.err

    @pytest.mark.parametrize(
        ("source", "said"),
        [
            ("git:v9:k8s/", "git knows no revision 'v9'"),
            ("git:HEAD~7", "git knows no revision 'HEAD~7'"),
            ("git:HEAD:k8", "HEAD has k8s"),
            ("git:HEAD:k8s/db.yaml", "HEAD has k8s/web.yaml"),
            ("git:HEAD:../..", "is outside of the repository"),
            ("git:", "the revision is missing"),
            ("git:--upload-pack=x:y", "the revision is missing"),
        ],
    )
    def test_what_is_not_there(self, run: Run, history: Git, source: str, said: str) -> None:
        result = run("diff", source, "k8s")
        assert result.status == 3
        assert said in result.err

    def test_no_repository(self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "nowhere").mkdir()
        monkeypatch.chdir(tmp_path / "nowhere")
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
        result = run("diff", "git:HEAD:k8s", "/dev/null")
        assert result.status == 3
        assert "the repository that one stands in" in result.err


class TestAsATool:
    def test_textconv_shows_rules_in_canonical_form(self, git: Git) -> None:
        """Another spelling of the same rules is no difference, a changed rule is."""
        Path(".gitattributes").write_text("*.rules diff=rules\n")
        git("config", "diff.rules.textconv", "kproxy-nat import -o rules")
        commit(git, RULES / "old.rules", "node.rules")
        spelled = Path("node.rules").read_text().replace("-d 10.96.0.20/32", "--destination 10.96.0.20")
        Path("node.rules").write_text(spelled)
        assert git("diff") == ""
        Path("node.rules").write_text((RULES / "new.rules").read_text())
        assert "-:KUBE-SEP-7RIP4NYF266QFHEU - [0:0]\n" in git("diff")

    def test_textconv_shows_services(self, git: Git) -> None:
        Path(".gitattributes").write_text("*.rules diff=services\n")
        git("config", "diff.services.textconv", "kproxy-nat import")
        commit(git, RULES / "old.rules", "node.rules")
        Path("node.rules").write_text((RULES / "new.rules").read_text())
        assert "-  - 10.180.2.6\n" in git("diff")

    def test_textconv_shows_what_manifests_compile_to(self, git: Git) -> None:
        Path(".gitattributes").write_text("k8s/*.yaml diff=compiled\n")
        git("config", "diff.compiled.textconv", "kproxy-nat --quiet compile")
        commit(git, PAIR / "old.yaml", "k8s/web.yaml")
        Path("k8s/web.yaml").write_text((PAIR / "new.yaml").read_text())
        assert "\n+-A KUBE-SEP-7RIP4NYF266QFHEU -s 10.180.2.6/32" in git("diff")

    def test_difftool(self, git: Git) -> None:
        git("config", "difftool.kproxy-nat.cmd", 'kproxy-nat diff "$LOCAL" "$REMOTE"')
        commit(git, PAIR / "old.yaml", "k8s/web.yaml")
        Path("k8s/web.yaml").write_text((PAIR / "new.yaml").read_text())
        said = git("difftool", "--no-prompt", "--tool", "kproxy-nat")
        assert "+ endpoint 10.180.2.6:8080, gets 1/3" in said

    def test_difftool_of_a_new_file(self, git: Git) -> None:
        git("config", "difftool.kproxy-nat.cmd", 'kproxy-nat diff "$LOCAL" "$REMOTE"')
        commit(git, PAIR / "old.yaml", "README")
        commit(git, PAIR / "old.yaml", "k8s/web.yaml")
        said = git("difftool", "--no-prompt", "--tool", "kproxy-nat", "HEAD~1", "HEAD")
        assert "1 service port: 1 added" in said

    def test_as_kubectl_calls_it(self, run: Run, tmp_path: Path) -> None:
        """kubectl diff hands over two folders with a file for each object, empty where there is none yet."""
        live, merged = tmp_path / "LIVE-1", tmp_path / "MERGED-1"
        for folder, text in (
            (live, (PAIR / "old.yaml").read_text()),
            (merged, (PAIR / "new.yaml").read_text()),
        ):
            folder.mkdir()
            documents = dict(zip(("config", "node", "service", "slice"), text.split("---\n"), strict=True))
            (folder / "v1.Service.shop.web").write_text(documents["service"])
            (folder / "discovery.k8s.io.v1.EndpointSlice.shop.web-1").write_text(documents["slice"])
        (live / "v1.Service.shop.db").write_text("")
        (merged / "v1.Service.shop.db").write_text(
            documents["service"].replace("web", "db").replace(".20", ".30")
        )
        result = run("diff", "--level=text", str(live), str(merged))
        assert result.status == 1
        assert result.out.startswith(f"--- {live}")
        assert (
            '\n+-A KUBE-SVC-67NZLRHBNDSAWJRO -m comment --comment "shop/web:http -> 10.180.2.6:8080"'
            in result.out
        )
        assert '\n+-A KUBE-SERVICES -d 10.96.0.30/32 -p tcp -m comment --comment "shop/db' in result.out
        assert run("diff", "--level=text", str(live), str(live)).status == 0
