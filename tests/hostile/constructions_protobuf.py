"""TensorFlow's bundles and ONNX: tables and protocol buffers that lie about lengths, places and shapes."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.hostile.making import FOUR, Case, block, field, stored, table, varint

EITHER, ANY = "refuse finding", "refuse finding ok"
HEADER = (b"", field(1, 1) + field(3, field(1, 1)))
FULL = b"\xff" * 10


def _place(dtype: int = 1, shape: Iterable[int] = (4,), shard: int = 0, offset: int = 0, size: int = 16, more: bytes = b"") -> bytes:
    dims = b"".join(field(2, field(1, n)) for n in shape)
    return field(1, dtype) + field(2, dims) + field(3, shard) + field(4, offset) + field(5, size) + more


def _bundle(content: bytes, data: bytes | str | None = FOUR) -> Callable[[Path], None]:
    """An index and its shard: bytes, where a link leads, ``FIFO``, or nothing."""

    def make(path: Path) -> None:
        path.write_bytes(content)
        shard = path.with_suffix(".data-00000-of-00001")
        if data == "FIFO":
            os.mkfifo(shard)
        elif data == "FOLDER":
            shard.mkdir()
        elif isinstance(data, str):
            shard.symlink_to(data)
        elif data is not None:
            shard.write_bytes(data)

    return make


def _bundles() -> list[Case]:
    good = table([HEADER, (b"w", _place())])

    def case(kind: str, content: bytes, verdict: str = EITHER, mention: str = "", data: bytes | str | None = FOUR) -> Case:
        return Case(f"{kind}.index", _bundle(content, data), verdict, mention)

    def one(kind: str, verdict: str = EITHER, mention: str = "w", key: bytes = b"w", **told: object) -> Case:
        return case(kind, table([HEADER, (key, _place(**told))]), verdict, mention)  # type: ignore[arg-type]

    first = len(stored(block([HEADER, (b"w", _place())]))) - 5
    return [
        case("good", good, "ok"),
        *(case(f"cut_{n}", good[:n]) for n in (1, 8, 47, 60, len(good) - 9, len(good) - 1)),
        *(case(f"flip_{n}", good[:n] + bytes((good[n] ^ 0x41,)) + good[n + 1 :], ANY) for n in range(0, len(good), 7)),
        case("tail", good + b"tail"),
        case("prefix", b"front" + good),
        case("footer_zero", table([HEADER, (b"w", _place())], footer=b"")),
        case("footer_huge", table([HEADER, (b"w", _place())], footer=varint(0) * 2 + varint((1 << 64) - 1) + varint((1 << 64) - 1))),
        case("footer_overflow", table([HEADER], footer=varint(0) * 2 + varint((1 << 64) - 4) + varint(8))),
        case("footer_varints", table([HEADER], footer=FULL * 4)),
        case("footer_to_data", table([HEADER, (b"w", _place())], footer=varint(0) * 2 + varint(0) + varint(first))),
        case("index_empty", table([HEADER], index=[])),
        case("index_junk_handle", table([HEADER], index=[(b"z", b"\xff\xff")])),
        case("index_no_handle", table([HEADER], index=[(b"z", b"")])),
        case("index_handle_past", table([HEADER], index=[(b"z", varint(1 << 40) + varint(10))])),
        case("index_handle_length", table([HEADER], index=[(b"z", varint(0) + varint(1 << 62))])),
        case("index_twice", table([HEADER, (b"w", _place())], index=[(b"y", varint(0) + varint(first)), (b"z", varint(0) + varint(first))])),
        case("index_inside", table([HEADER, (b"w", _place())], index=[(b"z", varint(3) + varint(first - 3))])),
        case("index_many", table([HEADER], index=[(b"%06d" % n, varint(n) + varint(1)) for n in range(20_000)])),
        case("kind_2", table([HEADER, (b"w", _place())], kind=2), EITHER, "compression"),
        case("kind_255", table([HEADER, (b"w", _place())], kind=255), EITHER, "compression"),
        case("snappy_empty", table(b"", kind=1)),
        case("snappy_huge", table(varint(1 << 40) + b"\0a", kind=1)),
        case("snappy_varint", table(FULL + b"\0", kind=1)),
        case("snappy_literal_past", table(varint(100) + bytes((50 << 2,)) + b"abc", kind=1)),
        case("snappy_literal_4g", table(varint(100) + bytes((63 << 2,)) + b"\xff\xff\xff\xff", kind=1)),
        case("snappy_copy_zero", table(varint(100) + b"\x00a\x01\x00", kind=1)),
        case("snappy_copy_far", table(varint(100) + b"\x00a\x03\xff\xff\xff\xff", kind=1)),
        case("snappy_short", table(varint(100) + b"\x00a", kind=1)),
        case("snappy_long", table(varint(1) + b"\x04ab", kind=1)),
        case("snappy_copies", table(varint(7_000_001) + b"\x00a" + b"\xfe\x01\x00" * 109_375, kind=1)),
        case("restarts_huge", table(block([HEADER, (b"w", _place())], b"\xff\xff\xff\xff"))),
        case("restarts_none", table(block([HEADER, (b"w", _place())], bytes(4))), ANY),
        case("restarts_past", table(block([HEADER, (b"w", _place())], struct.pack("<2I", 99_999, 1))), ANY),
        case("block_empty", table(b"")),
        case("block_three", table(b"abc")),
        case("shared_first", table(b"\x05\x00\x00" + struct.pack("<2I", 0, 1))),
        case("value_past", table(b"\x00\x00\xff\x7f" + struct.pack("<2I", 0, 1))),
        case("lengths_varint", table(FULL * 3 + struct.pack("<2I", 0, 1))),
        case("unsorted", table([HEADER, (b"w", _place()), (b"a", _place())])),
        case("header_last", table([(b"a", _place()), HEADER])),
        case("header_twice", table([HEADER, HEADER, (b"w", _place())])),
        case("header_empty", table([(b"", b""), (b"w", _place())])),
        case("header_shards_2", table([(b"", field(1, 2)), (b"w", _place())])),
        case("header_shards_2e62", table([(b"", field(1, 1 << 62)), (b"w", _place())])),
        case("header_order_7", table([(b"", field(1, 1) + field(2, 7)), (b"w", _place())])),
        case("header_bytes_for_number", table([(b"", field(1, b"xx")), (b"w", _place())])),
        case("header_group", table([(b"", b"\x0b\x0b\x0b"), (b"w", _place())])),
        case("header_version", table([(b"", field(1, 1) + field(3, field(1, 999))), (b"w", _place())]), ANY),
        case("header_only", table([HEADER]), ANY),
        case("entry_empty", table([HEADER, (b"w", b"")])),
        case("entry_junk", table([HEADER, (b"w", b"\xff" * 20)])),
        case("entry_cut", table([HEADER, (b"w", _place()[:-1])])),
        case("entry_field_0", table([HEADER, (b"w", b"\x00\x01" + _place())]), ANY),
        case("entry_wire_6", table([HEADER, (b"w", b"\x0e" + _place())])),
        case("entry_groups", table([HEADER, (b"w", b"\x7b" * 50_000 + _place())])),
        case("entry_twice", table([HEADER, (b"w", _place() + _place(2))]), ANY),
        case("entry_megabyte", table([HEADER, (b"w", _place(more=field(99, b"x" * (1 << 20))))]), ANY),
        one("dtype_99", dtype=99),
        one("dtype_huge", dtype=1 << 62),
        one("dtype_ref", dtype=101),
        one("dtype_resource", ANY, "", dtype=20),
        one("dtype_wider", dtype=2),
        one("shape_zero_huge", ANY, "", shape=(0, 1 << 62), size=0),
        one("shape_product", shape=(1 << 32, 1 << 32), size=0),
        one("shape_other", shape=(5,)),
        one("shape_rank_255", ANY, "", shape=(1,) * 255, size=4),
        one("shape_minus", shape=(-1,)),
        one("shard_minus", shard=-1),
        one("shard_1", shard=1),
        one("offset_minus", offset=-16),
        one("offset_past", offset=4),
        one("offset_2e63", offset=(1 << 63) - 8),
        one("size_zero", size=0),
        one("size_minus", size=-16),
        one("string_short", ANY, "", dtype=7, size=3),
        one("slices_none", EITHER, "", more=field(7, b"")),
        one("slices_lost", EITHER, "", more=field(7, field(1, field(1, 0) + field(2, 4)))),
        one("slices_rank", EITHER, "", more=field(7, field(1, field(2, 4)) * 300)),
        one("slices_minus", EITHER, "", more=field(7, field(1, field(1, -4) + field(2, 4)))),
        one("slices_many", EITHER, "", more=field(7, field(1, field(2, 1))) * 20_000),
        one("key_nul", ANY, "", key=b"\0w"),
        one("key_slice", ANY, "", key=b"\0\x00w\0\x01\x01\x01"),
        one("key_60000", ANY, "", key=b"w" * 60_000),
        one("key_70000", EITHER, "", key=b"w" * 70_000),
        one("key_not_utf8", ANY, "", key=b"\xff\xfe"),
        one("key_slashes", ANY, "", key=b"/" * 300),
        one("key_deep", "refuse", "", key=b"a/" * 3_000 + b"w"),
        one("object_graph_dtype", ANY, "", key=b"_CHECKPOINTABLE_OBJECT_GRAPH"),
        case("graph_junk", table([HEADER, (b"_CHECKPOINTABLE_OBJECT_GRAPH", _place(7, (), size=20)), (b"w", _place(offset=20))]), ANY, "", b"\x0f" + bytes(4) + b"\xff" * 15 + FOUR),
        case("graph_cycle", *_graph(field(1, field(1, field(1, 0) + field(2, "a"))))),
        case("graph_child_past", *_graph(field(1, field(1, field(1, 1 << 31) + field(2, "a"))))),
        case("graph_slot_past", *_graph(field(1, field(3, field(1, 7) + field(2, "m") + field(3, 9))))),
        case("graph_nodes", *_graph(field(1, b"") * 30_000)),
        case("graph_fan_out", *_graph(b"".join(field(1, b"".join(field(1, field(1, n + 1) + field(2, str(k))) for k in range(8))) for n in range(60)))),
        case("graph_names", *_graph(field(1, field(2, field(1, "x") + field(2, "\x1b[31mw") + field(3, "w"))))),
        case("data_missing", good, EITHER, "missing", None),
        case("data_empty", good, EITHER, "", b""),
        case("data_short", good, EITHER, "", FOUR[:-1]),
        case("data_long", good, ANY, "", FOUR * 9),
        case("data_folder", good, EITHER, "", "FOLDER"),
        case("data_device", good, EITHER, "", "/dev/zero"),
        case("data_ring", good, EITHER, "", "data_ring.data-00000-of-00001"),
        case("data_link_out", good, ANY, "", "/etc/hostname"),
        case("data_nan", good, "finding", "NaN", struct.pack("<4f", *[float("nan")] * 4)),
        case("many", table([HEADER, *((b"w%06d" % n, _place(shape=(0,), size=0)) for n in range(5_000))]), ANY),
    ]  # fmt: skip


def _graph(content: bytes) -> tuple[bytes, str, str, bytes]:
    """A bundle with an object graph: a string tensor of one element, its length and checksum of lengths before it."""
    size = len(varint(len(content))) + 4 + len(content)
    pairs = [HEADER, (b"_CHECKPOINTABLE_OBJECT_GRAPH", _place(7, (), size=size)), (b"w", _place(offset=size))]
    return table(pairs), ANY, "", varint(len(content)) + bytes(4) + content + FOUR


def _tensor(called: str = "w", dims: Iterable[int] = (4,), dtype: int = 1, raw: bytes | None = FOUR, more: bytes = b"") -> bytes:
    return b"".join(field(1, n) for n in dims) + field(2, dtype) + field(8, called) + (field(9, raw) if raw is not None else b"") + more


def _model(*tensors: bytes, nodes: bytes = b"", graph: bytes = b"", more: bytes = b"") -> bytes:
    inner = field(2, "g") + b"".join(field(5, one) for one in tensors) + nodes + graph
    return field(1, 8) + field(2, "maker") + field(8, field(1, "") + field(2, 17)) + field(7, inner) + more


def _outside(location: str, *, offset: str = "0", length: str = "16", more: bytes = b"", dims: Iterable[int] = (4,)) -> bytes:
    entries = [("location", location), ("offset", offset), ("length", length)]
    return _tensor(dims=dims, raw=None, more=b"".join(field(13, field(1, k) + field(2, v)) for k, v in entries) + field(14, 1) + more)


def _beside(content: bytes, data: bytes | str = FOUR, called: str = "w.bin") -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(content)
        other = path.parent / called
        if data == "FIFO":
            os.mkfifo(other)
        elif data == "FOLDER":
            other.mkdir()
        elif isinstance(data, str):
            other.symlink_to(data)
        else:
            other.write_bytes(data)

    return make


def _models() -> list[Case]:
    good = _model(_tensor())

    def one(kind: str, *tensors: bytes, verdict: str = EITHER, mention: str = "w") -> Case:
        return Case(f"{kind}.onnx", _model(*tensors), verdict, mention)

    def typed(number: int, content: bytes) -> bytes:
        return field(number, content)

    def subgraph(levels: int) -> bytes:
        inner = field(2, "g") + field(5, _tensor())
        for _ in range(levels):
            inner = field(1, field(4, "If") + field(5, field(1, "then_branch") + field(6, inner) + field(20, 5)))
        return inner

    def located(kind: str, location: str, mention: str = "", **told: str) -> Case:
        return Case(f"outside_{kind}.onnx", _beside(_model(_outside(location, **told))), EITHER, mention)  # type: ignore[arg-type]

    return [
        Case("good.onnx", good, "ok"),
        *(Case(f"cut_{n}.onnx", good[:n], "refuse finding") for n in (3, 10, 20, len(good) - 1)),
        *(Case(f"flip_{n}.onnx", good[:n] + bytes((good[n] ^ 0x15,)) + good[n + 1 :], ANY) for n in range(0, len(good), 3)),
        Case("tail.onnx", good + b"tail", ANY),
        Case("two_graphs.onnx", good + field(7, field(2, "h")), EITHER),
        Case("no_graph.onnx", field(1, 8) + field(2, "maker") + field(8, field(2, 17)), "refuse"),
        Case("graph_of_text.onnx", field(1, 8) + field(2, "maker") + field(7, "hello world, this is no graph"), EITHER),
        Case("graph_empty.onnx", field(1, 8) + field(2, "m") + field(7, b""), ANY),
        Case("ir_huge.onnx", field(1, (1 << 64) - 1) + field(7, field(2, "g") + field(5, _tensor())), ANY),
        Case("opset_many.onnx", _model(_tensor(), more=field(8, field(1, "x") + field(2, 1)) * 50_000), ANY),
        Case("properties_many.onnx", _model(_tensor(), more=b"".join(field(14, field(1, f"k{n}") + field(2, "v")) for n in range(30_000))), ANY),
        Case("property_huge.onnx", _model(_tensor(), more=field(14, field(1, "k") + field(2, "v" * (5 << 20)))), ANY),
        Case("property_escape.onnx", _model(_tensor(), more=field(14, field(1, "\x1b[31m") + field(2, "\u202ev"))), "ok", "", ("\x1b", "\u202e")),
        Case("functions_many.onnx", _model(_tensor(), more=field(25, field(1, "f")) * 50_000), ANY),
        Case("training_info.onnx", _model(_tensor(), more=field(20, field(1, field(2, "t")))), ANY),
        Case("nested_100.onnx", _model(graph=subgraph(100)), ANY),
        Case("nested_1000.onnx", _model(graph=subgraph(1_000)), ANY),
        Case("nested_3000.onnx", _model(graph=subgraph(3_000)), ANY),
        Case("groups_deep.onnx", field(1, 8) + b"\x7b" * 100_000, "refuse"),
        Case("field_0.onnx", b"\x00\x00" + good, ANY),
        Case("wire_7.onnx", field(1, 8) + field(2, "m") + b"\x3f" + good, EITHER),
        Case("varint_long.onnx", field(1, 8) + field(2, "m") + b"\x3a" + b"\xff" * 20, EITHER),
        Case("length_2e63.onnx", field(1, 8) + field(2, "m") + b"\x3a" + varint(1 << 63) + good, EITHER),
        Case("nodes_names.onnx", _model(_tensor(), nodes=b"".join(field(1, field(1, "w") + field(2, f"o{n}") + field(4, "Conv")) for n in range(8_000))), ANY),
        Case("nodes_fan.onnx", _model(_tensor(), nodes=field(1, field(1, "w") * 200_000 + field(2, "o") + field(4, "Concat"))), ANY),
        Case("nodes_cycle.onnx", _model(_tensor(), nodes=b"".join(field(1, field(1, f"o{n}") + field(2, f"o{(n + 1) % 500}") + field(4, "Add")) for n in range(500))), ANY),
        Case("nodes_ladder.onnx", _model(_tensor(), nodes=b"".join(field(1, field(1, f"o{n}") + field(1, f"o{n}") + field(2, f"o{n + 1}") + field(4, "Add")) for n in range(5_000))), ANY),
        Case("node_custom_op.onnx", _model(_tensor(), nodes=field(1, field(1, "w") + field(2, "o") + field(4, "PyOp") + field(7, "ai.onnx.contrib"))), ANY),
        one("dims_minus", _tensor(dims=(-4,))),
        one("dims_min", _tensor(dims=(-(1 << 63),))),
        one("dims_zero_huge", _tensor(dims=(0, 1 << 62), raw=b""), verdict=ANY, mention=""),
        one("dims_packed", field(1, varint(2) + varint(2)) + _tensor(dims=()), verdict="ok", mention=""),
        one("dims_packed_cut", field(1, b"\x82") + _tensor(dims=())),
        one("dims_packed_many", field(1, b"\x01" * 300_000) + _tensor(dims=())),
        one("dims_text", field(1, "four") + _tensor(dims=())),
        one("dims_none", _tensor(dims=())),
        one("dtype_0", _tensor(dtype=0)),
        one("dtype_minus", _tensor(dtype=-1)),
        one("dtype_none", field(1, 4) + field(8, "w") + field(9, FOUR)),
        one("dtype_wider", _tensor(dtype=11)),
        one("dtype_half", _tensor(dtype=10)),
        one("dtype_int4", _tensor(dtype=22)),
        one("raw_empty", _tensor(raw=b"")),
        one("raw_none", _tensor(raw=None)),
        one("raw_twice", _tensor(more=field(9, FOUR)), verdict=ANY, mention=""),
        one("raw_of_strings", _tensor(dtype=8)),
        one("floats_short", _tensor(raw=None, more=typed(4, FOUR[:-4]))),
        one("floats_odd", _tensor(raw=None, more=typed(4, FOUR[:-1]))),
        one("floats_single", _tensor(raw=None, more=(b"\x25" + FOUR[:4]) * 4), verdict=ANY, mention=""),
        one("floats_in_doubles", _tensor(raw=None, more=typed(10, FOUR))),
        one("half_in_ints", _tensor(raw=None, dtype=10, more=typed(5, varint(1) * 4)), verdict="ok", mention=""),
        one("half_in_floats", _tensor(raw=None, dtype=10, more=typed(4, FOUR))),
        one("half_wide", _tensor(raw=None, dtype=10, more=typed(5, varint(1 << 40) * 4)), verdict=ANY, mention=""),
        one("int8_wide", _tensor(raw=None, dtype=3, more=typed(5, varint(100_000) * 4)), verdict=ANY, mention=""),
        one("ints_cut", _tensor(raw=None, dtype=7, more=typed(7, varint(1) * 3 + b"\x80"))),
        one("ints_11_bytes", _tensor(raw=None, dtype=7, more=typed(7, b"\xff" * 10 + b"\x01" + varint(1) * 3)), verdict=ANY, mention=""),
        one("ints_more", _tensor(raw=None, dtype=7, more=typed(7, varint(1) * 5))),
        one("bools_7", _tensor(raw=None, dtype=9, more=typed(5, varint(7) * 4)), verdict=ANY, mention=""),
        one("strings_less", _tensor(raw=None, dtype=8, more=field(6, "a"))),
        one("strings_good", _tensor(raw=None, dtype=8, more=field(6, "a") * 4), verdict=ANY, mention=""),
        one("strings_of_numbers", _tensor(raw=None, dtype=8, more=typed(4, FOUR))),
        one("segment", _tensor(more=field(3, field(1, 0) + field(2, 1 << 40))), mention=""),
        one("name_empty", _tensor(called=""), verdict=ANY, mention=""),
        one("name_twice", _tensor(), _tensor(), verdict=ANY, mention="w"),
        one("name_70000", _tensor(called="w" * 70_000), mention=""),
        one("sparse", field(15, b""), mention=""),
        Case("sparse_initializer.onnx", _model(graph=field(15, field(1, _tensor()) + field(2, _tensor(dtype=7)) + field(3, 1 << 62))), ANY),
        Case("outside_good.onnx", _beside(_model(_outside("w.bin"))), "ok"),
        located("traversal", "../w.bin"),
        located("traversal_inside", "x/../../w.bin"),
        located("traversal_windows", "..\\w.bin"),
        located("absolute", "/etc/passwd", "passwd"),
        located("dot", "."),
        located("dotdot", ".."),
        located("double_slash", "//etc/passwd"),
        located("trailing_slash", "w.bin/"),
        located("nul", "w.bin\0.txt"),
        located("escape", "\x1b[31m.bin"),
        located("url", "https://example.org/w.bin"),
        located("itself", "outside_itself.onnx"),
        located("stream", "w.bin::$DATA"),
        located("long", "x" * 5_000),
        located("offset_past", "w.bin", "w", offset="4"),
        located("offset_minus", "w.bin", "w", offset="-1"),
        located("offset_text", "w.bin", "w", offset="zero"),
        located("offset_hex", "w.bin", "w", offset="0x4"),
        located("offset_digits", "w.bin", "w", offset="9" * 5_000),
        located("offset_unicode", "w.bin", "w", offset="\u0664"),
        located("length_short", "w.bin", "w", length="4"),
        located("length_huge", "w.bin", "w", length=str(1 << 62)),
        Case("outside_location_twice.onnx", _beside(_model(_outside("w.bin", more=field(13, field(1, "location") + field(2, "/etc/passwd"))))), EITHER),
        Case("outside_and_raw.onnx", _beside(_model(_outside("w.bin", more=field(9, FOUR)))), EITHER),
        Case("outside_entries.onnx", _beside(_model(_outside("w.bin", more=b"".join(field(13, field(1, f"k{n}") + field(2, "v")) for n in range(50_000))))), EITHER),
        Case("outside_fifo.onnx", _beside(_model(_outside("w.bin")), "FIFO"), EITHER),
        Case("outside_folder.onnx", _beside(_model(_outside("w.bin")), "FOLDER"), EITHER),
        Case("outside_device.onnx", _beside(_model(_outside("w.bin")), "/dev/zero"), EITHER),
        Case("outside_ring.onnx", _beside(_model(_outside("w.bin")), "w.bin"), EITHER),
        Case("outside_link.onnx", _beside(_model(_outside("w.bin")), "/etc/passwd"), "refuse", "link"),
        Case("outside_link_folder.onnx", _beside(_model(_outside("etc/passwd")), "/etc", "etc"), "refuse", "link"),
        Case("outside_nan.onnx", _beside(_model(_outside("w.bin")), struct.pack("<4f", *[float("inf")] * 4)), "finding", "infinite"),
    ]  # fmt: skip


def cases() -> dict[str, list[Case]]:
    """Constructions by class."""
    return {"tf-bundle": _bundles(), "onnx": _models()}
