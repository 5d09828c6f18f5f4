"""Each format of documentation becomes blocks of clean text."""

import zipfile
from pathlib import Path

import pytest

from recipes.starter import manpages, packages, pods, vimhelp, web
from recipes.starter.blocks import Block, tidy
from recipes.starter.sources import Source
from theta.errors import DataError

H, T, P = "heading", "term", "paragraph"
GAP = ("gap", "")


def found(blocks: list[Block]) -> list[tuple[str, str]]:
    return [(block.kind, block.text) for block in blocks]


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("It’s  a “test”\n of…\u00a0this", 'It\'s a "test" of... this'),
        ("one—two – three‐four", "one - two - three-four"),
        ("ﬁle names ¶", "file names"),
        ("a word , and another .", "a word, and another."),
        ("Zürich and Sîn-lēqi", "Zürich and Sîn-lēqi"),
        ("a .config file", "a .config file"),
    ],
)
def test_text_is_one_line_with_ascii_punctuation(raw: str, clean: str) -> None:
    assert tidy(raw) == clean


def test_html() -> None:
    page = """<html><head><title>No</title></head><body><nav><p>Menu</p></nav><div role="main">
    <h1>Joins<a class="headerlink" href="#">¶</a></h1>
    <p>A <em>join</em> reads <code>two</code>
       tables.</p><pre>SELECT 1</pre>
    <ul><li><p>First.</p></li><li>Second</li></ul><!-- no -->
    <dl><dt><code>bisect</code>(a, x)</dt><dd><p>Finds the place.</p></dd></dl>
    <div class="sphinxsidebar">No</div><table><tr><td>No</td></tr></table></div><footer>No</footer></body></html>"""
    assert found(web.blocks(page.encode())) == [
        (H, "Joins"),
        (P, "A join reads `two` tables."),
        GAP,
        (P, "First."),
        (P, "Second"),
        (T, "bisect(a, x)"),
        (P, "Finds the place."),
        GAP,
    ]


def test_html_in_another_encoding_and_without_content() -> None:
    assert found(web.blocks("<body><p>caf\u00e9</p></body>".encode("latin-1"))) == [(P, "café")]
    assert web.blocks(b"") == []


def test_pod() -> None:
    page = b"""=head1 How do I C<sort>?

Use B<sort>, as L<perlfunc|perldoc> says: C<< $a <=> $b >>, I<not> E<lt>.

    my @sorted = sort @list;

=over 4

=item sort LIST

Sorts.

=begin html

No.

=end html

=cut
"""
    assert found(pods.blocks(page)) == [
        (H, "How do I `sort`?"),
        (P, "Use sort, as perlfunc says: `$a <=> $b`, not <."),
        GAP,
        (T, "sort LIST"),
        (P, "Sorts."),
    ]


def test_manual_page() -> None:
    page = rb""".\" comment
.TH LS 1
.SH NAME
ls \- list directory contents
.SH "SEE MORE"
List \fBall\fR of the
.BR files (5)
you have.
.PP
.TP
.B \-a
Hides nothing.
.nf
code
.fi
"""
    assert found(manpages.blocks(page)) == [
        (H, "NAME"),
        (P, "ls - list directory contents"),
        (H, "SEE MORE"),
        (P, "List all of the files(5) you have."),
        (T, "-a"),
        (P, "Hides nothing."),
        GAP,
    ]
    assert manpages.blocks(b".Dd today\n.Sh NAME\n") == []


def test_vim_help() -> None:
    page = b"""==============================================================================
2. Two ways of undo\t\t\t\t*undo-two-ways*

How undo works depends on the 'u' flag,
see |undo-redo|.

u\t\t\tUndo changes.
"""
    assert found(vimhelp.blocks(page)) == [
        (H, "Two ways of undo"),
        (P, "How undo works depends on the 'u' flag, see undo-redo."),
        GAP,
    ]


def source(**changes: object) -> Source:
    values = {
        "package": "talk==1.0", "registry": "pypi", "licence": "MIT", "copyleft": "no", "subject": "",
        "format": "smalltalk", "files": ["data/*.yml"], "without": ["*/b.yml"],
    }  # fmt: skip
    return Source.model_validate({**values, **changes})


def test_a_package_is_found_recorded_and_read(tmp_path: Path) -> None:
    path = tmp_path / "talk-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data/c.yml", "data/a.yml", "data/b.yml", "other.yml"):
            archive.writestr(name, name)
    assert packages.find(source(), tmp_path) == packages.download(source(), tmp_path) == path
    assert packages.record(path)["version"] == "1.0"
    assert [name for name, _ in packages.read(path, source().files, source().without)] == ["data/a.yml", "data/c.yml"]
    with pytest.raises(DataError, match="holds 0 files of other, expected one; run `dvc repro packages`"):
        packages.find(source(package="other"), tmp_path)


def test_the_version_of_a_debian_package(tmp_path: Path) -> None:
    path = tmp_path / "dict-wn_1%3a3.0-37_all.deb"
    path.write_bytes(b"")
    assert packages.record(path)["version"] == "1:3.0-37"
