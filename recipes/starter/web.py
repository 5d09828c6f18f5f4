"""HTML pages -> blocks. Navigation, code listings and tables are left out."""

from dataclasses import dataclass, field

from lxml import etree, html

from recipes.starter.blocks import Block, Kind, tidy

_DROPPED = frozenset(
    "head script style nav header footer pre table svg button form aside select textarea noscript iframe sup".split()
)
_DROPPED_CLASSES = frozenset(
    "sphinxsidebar related headerlink toc navheader navfooter permalink viewcode-link menu toplang up top topbar "
    "bottomlang contents mobile-nav relatedtopics refsynopsisdiv synopsis highlight warning-deprecated sidebar "
    "srclink since rightside out-of-band notable-traits related-bar copyright breadcrumb footnote-reference "
    "literal-block nosearch fancy toc_list".split()
)
_DROPPED_IDS = frozenset("quickview page-header path footer preamble SearchFrame DonationFrame toc_sub".split())
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6"), "heading"),
    "dt": "term",
    **dict.fromkeys(
        "p div li dd section article main blockquote body center ul ol dl details summary hr tr td br".split(),
        "paragraph",
    ),
}
_CODE = frozenset(("code", "tt", "kbd", "samp"))
_MAIN = "//*[@role='main'] | //main | //div[@class='body'] | //*[@id='main-content']"
_LONGEST_CODE = 60


@dataclass(slots=True)
class _Page:
    blocks: list[Block] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    kind: Kind = "paragraph"

    def flush(self) -> None:
        text = tidy("".join(self.parts))
        self.parts.clear()
        if text:
            self.blocks.append(Block(self.kind, text))


def blocks(content: bytes) -> list[Block]:
    """Return the blocks of the main part of a page."""
    try:
        root = html.document_fromstring(content, parser=html.HTMLParser(encoding=_encoding(content)))
    except etree.ParserError:  # an empty page
        return []
    page = _Page()
    for part in (root.xpath(_MAIN) or root.xpath("//body"))[:1]:
        _walk(part, page)
        page.flush()
    return page.blocks


def _encoding(content: bytes) -> str:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return "iso-8859-1"
    return "utf-8"


def _walk(node: etree._Element, page: _Page) -> None:
    if not isinstance(node.tag, str):  # a comment
        return
    if _is_dropped(node):
        if node.tag in ("pre", "table"):
            page.flush()
            page.blocks.append(Block("gap", ""))
        return
    kind = _KINDS.get(node.tag)
    before = page.kind
    if kind:
        page.flush()
        # A paragraph inside a heading or a term is part of it, unless it is a <p> or <dd>.
        page.kind = kind if kind != "paragraph" or before == "paragraph" or node.tag in ("p", "dd") else before
    quote = "`" if _is_code(node, page) else ""
    page.parts.append(quote + (node.text or ""))
    for child in node:
        _walk(child, page)
        page.parts.append(child.tail or "")
    page.parts.append(quote)
    if kind:
        page.flush()
        page.kind = before


def _is_dropped(node: etree._Element) -> bool:
    classes = node.get("class")
    return (
        node.tag in _DROPPED
        or (classes is not None and not _DROPPED_CLASSES.isdisjoint(classes.split()))
        or node.get("id") in _DROPPED_IDS
        or node.get("hidden") is not None
    )


def _is_code(node: etree._Element, page: _Page) -> bool:
    if node.tag not in _CODE or page.kind != "paragraph":
        return False
    text = "".join(node.itertext())
    return 0 < len(text) <= _LONGEST_CODE and "`" not in text and any(map(str.isalnum, text))
