"""Names that files may hold to turn a report into something else, and audits of such files."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

from hypothesis import strategies as st

from ckptaudit.arch import Model
from ckptaudit.graph import LayerGraph, TensorSpec
from ckptaudit.pipeline import Audit, compare
from ckptaudit.read import Branch, Checkpoint
from ckptaudit.read.recorded import Recorded

#: What has a meaning somewhere: Markdown, HTML, XML, mentions, links, workflow commands, control and bidirectional characters.
FRAGMENTS = [
    "`", "``", "```", "~~~", "|", "\\", "\\|", "\\`", "<b>", "</details>", "<!--", "-->", "<script>alert(1)</script>", "]]>",
    "&lt;", "&#64;", "@octocat", "@org/team", "#123", "GH-123", "org/repo#1", "deadbeefdeadbeefdeadbeefdeadbeefdeadbeef",
    "https://evil.example/x", "www.evil.example", "a@evil.example", "[x](https://evil.example)",
    "![x](https://evil.example/p.png)", "[x]: https://evil.example", "<https://evil.example>", "evil.example", "**b**", "_i_",
    "~~s~~", "# h", "> q", "- l", "1. l", "---", "===", "| a | b |", "$x$", "$$", ":smile:", "\n", "\r\n", "\n\n", "\n::error::x",
    "::error file=x::y", "##[error]x", "%0A", "%", ",", ":", "\x00", "\x1b[31m", "\u202e", "\u200b", "\u2028", "\ud800", "\ufffe",
    "\u0085", " ", "  ", "\t", "é", "漢", "{0}", "weight", "layer1", ".", "0",
]  # fmt: skip

names = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=6)), min_size=1, max_size=8).map("".join)


def audit_of(file: list[str], model: list[str]) -> Audit:
    """An audit of a file with these tensors against a model with those; equal names differ in shape every other time."""

    def specs(these: list[str], offset: int) -> list[TensorSpec]:
        return [TensorSpec(name, (4 + offset * (i % 2), 3, 3, 3), "float32") for i, name in enumerate(dict.fromkeys(these))]

    graph = LayerGraph.from_tensors(specs(file, 0))
    branch = Branch("", "model", MappingProxyType({}))
    path = Path("some") / "".join(c for c in file[0][:100] if c not in "/\0")
    checkpoint = Checkpoint(
        path, "torch-zip", "torch", branch, "the only one", (branch,), MappingProxyType({}), (), 1000, recorded=Recorded()
    )
    checkpoint.__dict__["graph"] = graph  # a cached property: there is no file to read it from
    return compare(checkpoint, Model(model[-1], "file", LayerGraph.from_tensors(specs(model, 1))))
