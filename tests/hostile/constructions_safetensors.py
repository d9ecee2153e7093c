"""safetensors headers, indices of shards, and names that reach for the terminal, in every format that holds names."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

from tests.hostile.making import FOUR, SYSTEM, Case, entry, field, pickled, safetensors, state_dict, table, tensor, text, torch_zip

EITHER, ANY = "refuse finding", "refuse finding ok"
W = entry([4], [0, 16])


def _headers() -> list[Case]:
    def raw(words: str | bytes, data: bytes = FOUR) -> bytes:
        return safetensors(words.encode() if isinstance(words, str) else words, data)

    one = '"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}'
    shapes = {
        "float": [4.0],
        "exponent": '"shape":[4e0]',
        "nested": [[4]],
        "object": {"0": 4},
        "text": "4",
        "missing": None,
        "2e64": [2**64],
        "product_zero_huge": [2**62, 2**62, 0],
        "rank_1000": [1] * 1000 + [4],
        "minus_zero": '"shape":[-0]',
        "nan": '"shape":[NaN]',
        "infinity": '"shape":[Infinity]',
        "true": [True, 4],
        "null_inside": [4, None],
    }
    found = []
    for kind, shape in shapes.items():
        words = (
            "{" + one.replace('"shape":[4]', shape) + "}"
            if isinstance(shape, str) and shape.startswith('"')
            else json.dumps({"w": {k: v for k, v in entry(shape, [0, 16]).items() if v is not None}})
        )
        found.append(Case(f"shape_{kind}.safetensors", raw(words), "refuse", "" if kind in ("nan", "infinity") else "w"))
    offsets = {
        "reversed": [16, 0],
        "same": [0, 0],
        "huge": [0, 2**70],
        "float": [0, 16.0],
        "exponent": "1e1",
        "null": None,
        "object": {"begin": 0, "end": 16},
        "bool": [False, 16],
        "empty": [],
        "minus_zero": [0, -16],
        "shifted": [1, 17],
    }
    found += [Case(f"offsets_{kind}.safetensors", safetensors({"w": entry([4], value)}, FOUR), "refuse") for kind, value in offsets.items()]
    dtypes = ["f32", "F33", "", "Float", "F32 ", "\u0130", "__class__", None, 1, ["F32"], {"F32": 1}, "F32\0"]
    found += [
        Case(f"dtype_{number}.safetensors", safetensors({"w": entry([4], [0, 16], dtype)}, FOUR), "refuse")
        for number, dtype in enumerate(dtypes)
    ]
    metadata = {
        "null": None,
        "text": '"x"',
        "number": "1",
        "nested": '{"a":{"b":"c"}}',
        "list_value": '{"a":["b"]}',
        "null_value": '{"a":null}',
        "bool_value": '{"a":true}',
    }
    found += [
        Case(f"metadata_{kind}.safetensors", raw(f'{{"__metadata__":{value or "null"},{one}}}'), EITHER, "metadata")
        for kind, value in metadata.items()
    ]
    whole = "{" + one + "}"
    deep = '{"a":' * 100_000
    found += [
        Case("good.safetensors", raw(whole), "ok"),
        Case("metadata_empty.safetensors", raw('{"__metadata__":{},' + one + "}"), "ok"),
        Case("metadata_twice.safetensors", raw('{"__metadata__":{"a":"b"},"__metadata__":{"a":"c"},' + one + "}"), "refuse", "duplicate"),
        Case("metadata_key_twice.safetensors", raw('{"__metadata__":{"a":"b","a":"c"},' + one + "}"), "refuse", "duplicate"),
        Case("metadata_key_twice_escaped.safetensors", raw('{"__metadata__":{"a":"b","\\u0061":"c"},' + one + "}"), "refuse", "duplicate"),
        Case("metadata_huge.safetensors", safetensors({"__metadata__": {"a": "x" * (4 << 20)}, "w": W}, FOUR), ANY),
        Case("metadata_many.safetensors", safetensors({"__metadata__": {str(n): "x" for n in range(100_000)}, "w": W}, FOUR), ANY),
        Case("metadata_escaped_name.safetensors", raw('{"\\u005f_metadata__":{"a":"b"},' + one + "}"), "ok"),
        Case("metadata_script.safetensors", safetensors({"__metadata__": {"<script>": "\x1b[2J\u202e"}, "w": W}, FOUR), "ok", "", ("\x1b", "\u202e")),
        Case("metadata_proto.safetensors", safetensors({"__metadata__": {"__proto__": "x", "constructor": "y"}, "w": W}, FOUR), "ok"),
        Case("deep_open.safetensors", raw(deep), "refuse"),
        Case("deep_list.safetensors", raw('{"w":' + "[" * 100_000 + "]" * 100_000 + "}"), "refuse"),
        Case("deep_metadata.safetensors", raw('{"__metadata__":' + deep + "1" + "}" * 100_000 + "}"), "refuse"),
        Case("int_5000_digits.safetensors", raw(whole.replace("[4]", "[" + "9" * 5000 + "]")), "refuse"),
        Case("int_leading_zero.safetensors", raw(whole.replace("[4]", "[04]")), "refuse"),
        Case("float_huge.safetensors", raw(whole.replace("[4]", "[1e400]")), "refuse"),
        Case("bom.safetensors", raw(b"\xef\xbb\xbf" + whole.encode()), "refuse"),
        Case("whitespace_front.safetensors", raw("   " + whole), "refuse"),
        Case("whitespace_back.safetensors", raw(whole + " " * 13), "ok"),
        Case("newline_back.safetensors", raw(whole + "\n"), ANY),
        Case("nul_back.safetensors", raw(whole + "\0"), "refuse"),
        Case("second_object.safetensors", raw(whole + "{}"), "refuse"),
        Case("trailing_comma.safetensors", raw("{" + one + ",}"), "refuse"),
        Case("single_quotes.safetensors", raw(whole.replace('"', "'")), "refuse"),
        Case("latin1.safetensors", raw(whole.encode().replace(b'"w"', b'"\xe4"')), "refuse"),
        Case("utf8_surrogates.safetensors", raw(whole.encode().replace(b'"w"', b'"\xed\xa0\x80"')), "refuse"),
        Case("utf8_overlong.safetensors", raw(whole.encode().replace(b'"w"', b'"\xc0\x80"')), "refuse"),
        Case("control_in_name.safetensors", raw(whole.encode().replace(b'"w"', b'"\x01"')), "refuse"),
        Case("list.safetensors", raw("[" + "1" * 20 + "]"), "refuse"),
        Case("text.safetensors", raw('"' + "x" * 20 + '"'), "refuse"),
        Case("empty_object.safetensors", raw("{}", b""), "ok"),
        Case("empty_object_data.safetensors", raw("{}"), EITHER),
        Case("entry_null.safetensors", raw('{"w":null}'), "refuse", "w"),
        Case("entry_list.safetensors", raw('{"w":["F32",[4],[0,16]]}'), "refuse", "w"),
        Case("entry_empty.safetensors", raw('{"w":{}}'), "refuse", "w"),
        Case("hole_middle.safetensors", safetensors({"a": entry([1], [0, 4]), "b": entry([1], [8, 12])}, FOUR), EITHER),
        Case("overlap_partly.safetensors", safetensors({"a": entry([3], [0, 12]), "b": entry([2], [8, 16])}, FOUR), EITHER, "overlap"),
        Case("overlap_same.safetensors", safetensors({"a": W, "b": W}, FOUR), EITHER, "overlap"),
        Case("unsorted.safetensors", safetensors({"b": entry([2], [8, 16]), "a": entry([2], [0, 8])}, FOUR), "ok"),
        Case("empty_in_hole.safetensors", safetensors({"a": W, "e": entry([0], [8, 8])}, FOUR), ANY),
        Case("empty_past_end.safetensors", safetensors({"w": W, "e": entry([0], [999, 999])}, FOUR), EITHER),
        Case("data_short.safetensors", safetensors({"w": W}, FOUR[:-1]), "refuse", "truncated"),
        Case("data_pickle_behind.safetensors", safetensors({"w": W}, FOUR + pickled(SYSTEM)), EITHER),
        Case("data_zip_behind.safetensors", safetensors({"w": W}, FOUR + torch_zip(state_dict(SYSTEM))), EITHER),
        Case("length_one.safetensors", safetensors(b"{" + whole.encode(), FOUR, 1), "refuse"),
        Case("length_past.safetensors", safetensors(whole.encode(), b"", 10_000), "refuse", "header"),
        Case("length_2e63.safetensors", safetensors(whole.encode(), FOUR, 1 << 63), "refuse", "header"),
        Case("length_100m.safetensors", safetensors(whole.encode(), FOUR, 100_000_000), "refuse", "header"),
        Case("length_short.safetensors", safetensors(whole.encode(), FOUR, len(whole) - 1), "refuse"),
        Case("length_into_data.safetensors", safetensors(whole.encode(), FOUR, len(whole) + 4), "refuse"),
        Case("many_holes.safetensors", safetensors({f"n{n}": entry([1], [8 * n, 8 * n + 4]) for n in range(5_000)}, bytes(40_000)), EITHER),
        Case("same_prefix.safetensors", safetensors({"x" * 500 + str(n): entry([0], [0, 0]) for n in range(1_500)}), ANY),
        Case("dotted_deep.safetensors", safetensors({".".join("a" * 250): W}, FOUR), ANY),
        Case("dotted_deeper.safetensors", safetensors({".".join("a" * 100_000): W}, FOUR), "refuse"),
        Case("dots_alone.safetensors", safetensors({"...": W}, FOUR), ANY),
        Case("f4_odd.safetensors", safetensors({"w": entry([3], [0, 1], "F4")}, b"x"), "refuse"),
        Case("f6.safetensors", safetensors({"w": entry([4], [0, 3], "F6_E2M3")}, b"xyz"), ANY),
        Case("nan_values.safetensors", safetensors({"w": W}, struct.pack("<4f", *[float("nan")] * 4)), "finding", "NaN"),
        Case("unicode_lines.safetensors", safetensors({"a\u2028b\u2029c\u0085d": W}, FOUR), "ok", "", ("\u2028", "\u0085")),
    ]  # fmt: skip
    return found


def _index(weight_map: object, files: dict[str, bytes | str] | None = None, raw: bytes | None = None):
    """An index and the files beside it; a text is where a link leads, ``FIFO`` a FIFO."""

    def make(path: Path) -> None:
        path.write_bytes(json.dumps({"metadata": {"total_size": 16}, "weight_map": weight_map}).encode() if raw is None else raw)
        (path.parent.parent / "canary").mkdir(exist_ok=True)
        (path.parent.parent / "canary" / "secret.safetensors").write_bytes(safetensors({"CANARY": W}, FOUR))
        for called, content in (files or {}).items():
            beside = path.parent / called
            if content == "FIFO":
                os.mkfifo(beside)
            elif isinstance(content, str):
                beside.symlink_to(content)
            else:
                beside.write_bytes(content)

    return make


def _indices() -> list[Case]:
    good, file = safetensors({"w": W}, FOUR), "a.safetensors"
    evil = torch_zip(state_dict(SYSTEM))
    secret = "canary/secret.safetensors"

    def index(kind: str, made: object, verdict: str = "refuse", mention: str = "") -> Case:
        return Case(f"{kind}/model.safetensors.index.json", made, verdict, mention, ("CANARY",))  # type: ignore[arg-type]

    outside = {
        "traversal": f"../{secret}",
        "traversal_windows": f"..\\{secret}",
        "traversal_inside": f"x/../../{secret}",
        "absolute": "/etc/passwd",
        "absolute_windows": "C:\\x.safetensors",
        "unc": "\\\\host\\share\\x",
        "folder": "shards/a.safetensors",
        "dot": ".",
        "dotdot": "..",
        "dot_slash": f"./{file}",
        "empty": "",
        "space": f" {file}",
        "nul": f"{file}\0.txt",
        "https": "https://example.org/a.safetensors",
        "home": "~/a.safetensors",
        "fd": "/dev/fd/0",
        "long": "x" * 300,
        "surrogate": "\ud800.safetensors",
    }
    found = [index(f"name_{kind}", _index({"w": called}, {file: good})) for kind, called in outside.items()]
    found += [
        index("good", _index({"w": file}, {file: good}), "ok"),
        index("missing", _index({"w": file}), "refuse", "missing"),
        index("missing_one", _index({"w": file, "v": "b.safetensors"}, {file: good}), "refuse", "missing"),
        index("promised", _index({"w": file, "v": file}, {file: good}), "refuse", "promises"),
        index("wrong_shard", _index({"w": "b.safetensors"}, {file: good, "b.safetensors": safetensors({"v": W}, FOUR)})),
        index("extra_tensor", _index({"w": file}, {file: safetensors({"w": entry([2], [0, 8]), "v": entry([2], [8, 16])}, FOUR)}), EITHER),
        index("itself", _index({"w": "model.safetensors.index.json"})),
        index("cycle", _index({"w": "b.index.json"}, {"b.index.json": json.dumps({"weight_map": {"w": "model.safetensors.index.json"}}).encode()})),
        index("fifo", _index({"w": file}, {file: "FIFO"})),
        index("directory", _index({"w": "canary_folder"}, {"canary_folder": "."})),
        index("device", _index({"w": file}, {file: "/dev/zero"})),
        index("link_ring", _index({"w": file}, {file: file})),
        index("link_dangling", _index({"w": file}, {file: "nowhere"})),
        index("link_inside", _index({"w": file}, {file: "b.safetensors", "b.safetensors": good}), ANY),
        index("shard_empty", _index({"w": file}, {file: b""})),
        index("shard_lfs", _index({"w": file}, {file: b"version https://git-lfs.github.com/spec/v1\n"}), "refuse"),
        index("shard_text", _index({"w": file}, {file: b"hello world, this is a text"})),
        index("shard_evil_pickle", _index({"w": file}, {file: evil}), EITHER, "system"),
        index("shard_cut", _index({"w": file}, {file: good[:-3]}), "refuse", "truncated"),
        index("map_empty", _index({})),
        index("map_null", _index(None)),
        index("map_text", _index("a.safetensors")),
        index("map_of_lists", _index({"w": [file]}, {file: good})),
        index("map_of_nulls", _index({"w": None})),
        index("map_missing", _index(None, raw=b'{"metadata": {"weight_map": 1}, "x": 2}')),
        index("map_twice", _index(None, {file: good}, raw=b'{"weight_map":{"w":"a.safetensors"},"weight_map":{"w":"b.safetensors"}}'), "refuse", "duplicate"),
        index("key_twice", _index(None, {file: good}, raw=b'{"weight_map":{"w":"a.safetensors","w":"b.safetensors"}}'), "refuse", "duplicate"),
        index("cut", _index(None, {file: good}, raw=b'{"weight_map":{"w":"a.safeten')),
        index("nan_size", _index(None, {file: good}, raw=b'{"metadata":{"total_size":NaN},"weight_map":{"w":"a.safetensors"}}'), ANY),
        index("huge_size", _index(None, {file: good}, raw=b'{"metadata":{"total_size":1e999},"weight_map":{"w":"a.safetensors"}}'), ANY),
        index("deep", _index(None, {file: good}, raw=b'{"weight_map":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}")),
        index("bom", _index(None, {file: good}, raw=b'\xef\xbb\xbf{"weight_map":{"w":"a.safetensors"}}'), ANY),
        index("list", _index(None, {file: good}, raw=b'["weight_map"]')),
        index("shards_20000", _index({f"w{n}": f"{n}.safetensors" for n in range(20_000)})),
        index("tensors_100000", _index({f"w{n}": file for n in range(100_000)}, {file: good})),
        index("name_of_shard_escape", _index({"w": "\x1b[31m.safetensors"}), "refuse"),
        index("name_of_tensor_escape", _index({"\x1b]0;x\x07": file}, {file: good}), "refuse"),
        index("metadata_list", _index(None, {file: good}, raw=b'{"metadata":[1],"weight_map":{"w":"a.safetensors"}}'), ANY),
        Case("torch/pytorch_model.bin.index.json", _index({"w": "a.bin"}, {"a.bin": torch_zip(state_dict())}), "ok"),
        Case("torch_evil/pytorch_model.bin.index.json", _index({"w": "a.bin"}, {"a.bin": evil}), EITHER, "system"),
        Case("torch_evil_unnamed/pytorch_model.bin.index.json", _index({"w": "a.bin"}, {"a.bin": torch_zip(state_dict()), "b.bin": evil}), ANY),
        Case("torch_mixed/pytorch_model.bin.index.json", _index({"w": "a.bin", "v": "b.safetensors"}, {"a.bin": torch_zip(state_dict()), "b.safetensors": safetensors({"v": W}, FOUR)}), ANY),
    ]  # fmt: skip
    return found


NAMES = {
    "osc": "\x1b]0;owned\x07w",
    "osc_link": "\x1b]8;;https://example.org\x1b\\w\x1b]8;;\x1b\\",
    "csi_c1": "\x9b31mw",
    "dcs": "\x1bP+q544e\x1b\\w",
    "clear": "w\x1b[2J\x1b[H",
    "carriage": "good\rbad.weight",
    "backspace": "bad\x08\x08\x08ok",
    "nul": "w\x00x",
    "delete": "w\x7f",
    "newline": "w\n::error file=x::owned",
    "workflow_set": "::set-output name=x::y",
    "workflow_stop": "::stop-commands::x",
    "bidi": "\u202egnp.exe\u202c",
    "isolates": "\u2066w\u2069\u200f\u061c",
    "zero_width": "w\u200b\u200d\ufeff",
    "tags": "w\U000e0041\U000e007f",
    "separators": "a\u2028b\u2029c\u0085d",
    "variation": "w\ufe0f\U000e0100",
    "combining": "w" + "\u0301" * 200,
    "markdown": "[click](https://example.org) **bold** `x` | a | @everyone #1",
    "html": '<script>alert(1)</script><img src=x onerror="alert(1)">',
    "html_comment": "--><svg/onload=alert(1)>",
    "entity": "&lt;script&gt;&#x1b;",
    "json": '","x":{"y":"',
    "sarif": "{{0}} {placeholder} [link](1)",
    "percent": "%s%n%x%0A",
    "rich": "[bold red]x[/] [link=https://example.org]y[/link]",
    "template": "${jndi:ldap://x} {{7*7}} #{x}",
    "proto": "__proto__",
    "dunder": "__class__.__init__.__globals__",
    "constructor": "constructor.prototype",
    "empty": "",
    "dot": ".",
    "dots": "a..b",
    "slashes": "/etc/passwd",
    "traversal": "../../x",
    "space": " ",
    "long": "x" * 20_000,
    "digits": "w." + "9" * 5_000,
    "digits_fullwidth": "layer\uff11.\u0661",
    "emoji": "\U0001f600\U0001f468\u200d\U0001f469",
    "private": "\ue000\U000f0000",
    "noncharacter": "\ufffe\uffff",
    "wide": "\uff57\uff45",
    "option": "--output=/tmp/x",
    "csv": '=cmd|"/C calc"!A0',
}
FORBIDDEN = (
    "\x1b",
    "\x07",
    "\x9b",
    "\r",
    "\x08",
    "\x00",
    "\x7f",
    "\u202e",
    "\u2066",
    "\u200b",
    "\u2028",
    "\u0085",
    "\U000e0041",
    "<script>alert",
    "\n::",
)
SHOWN = tuple(raw for raw in FORBIDDEN if raw != "<script>alert")


def _names() -> list[Case]:
    found = []
    for kind, called in NAMES.items():
        raw = called.encode()
        header = field(1, 1) + field(3, field(1, 1))
        place = field(1, 1) + field(2, field(2, field(1, 4))) + field(5, 16)
        weights = field(1, 4) + field(2, 1) + field(8, raw) + field(9, FOUR)

        def bundle(path: Path, pairs: bytes = table([(b"", header), (raw or b"w", place)])) -> None:
            path.write_bytes(pairs)
            path.with_suffix(".data-00000-of-00001").write_bytes(FOUR)

        found += [
            Case(f"{kind}.safetensors", safetensors({called: W}, FOUR), ANY, "", SHOWN),
            Case(f"{kind}.pth", torch_zip(pickled(b"}" + text(called) + tensor() + b"s")), ANY, "", SHOWN),
            Case(f"{kind}.index", bundle, ANY, "", SHOWN),
            Case(f"{kind}.onnx", field(1, 8) + field(2, raw or b"x") + field(7, field(2, raw) + field(5, weights)), ANY, "", SHOWN),
        ]
        found.append(
            Case(
                f"{kind}_state.pkl",
                pickled(b"}(" + text("epoch") + text(called) + text(called) + b"K\x01" + text("w") + b"cx.y\nz\nu"),
                ANY,
                "",
                SHOWN,
            )
        )
    return found


def cases() -> dict[str, list[Case]]:
    """Constructions by class."""
    return {"safetensors": _headers(), "shard-index": _indices(), "names": _names()}
