"""A second round over every format: what the first did not think of."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.hostile.constructions_keras import (
    ANY,
    DENSE,
    EITHER,
    LAMBDA,
    _external,
    _function,
    _given,
    _hdf5,
    _keras,
    _legacy,
    _model,
    _object,
)
from tests.hostile.constructions_protobuf import HEADER, _beside, _bundle, _place, _tensor
from tests.hostile.constructions_protobuf import _model as _onnx
from tests.hostile.making import (
    COMMAND,
    FOUR,
    HOOKS,
    STORAGE,
    SYSTEM,
    Case,
    block,
    call,
    entry,
    field,
    pickled,
    safetensors,
    state_dict,
    stored,
    table,
    tensor,
    text,
    torch_zip,
    varint,
    zipped,
)

EVIL = pickled(SYSTEM)
_PIECE = text(COMMAND) + b"\x85R"


def _short(words: str) -> bytes:
    """SHORT_BINUNICODE."""
    return b"\x8c" + bytes((len(words),)) + words.encode()


#: Other ways to the same call, with the word that must be told.
TRICKS: dict[str, tuple[bytes, str]] = {
    "names_from_the_memo": (_short("posix") + b"\x940" + _short("system") + b"\x940h\x00h\x01\x93" + _PIECE, "system"),
    "names_of_python_2": (b"U\x05posixU\x06system\x93" + _PIECE, "system"),
    "names_from_lines": (b"Vposix\nVsystem\n\x93" + _PIECE, "system"),
    "names_by_escapes": (b"V\\u0070osix\nV\\u0073ystem\n\x93" + _PIECE, "system"),
    "name_from_a_put_line": (b"Vposix\np1_0\n0Vsystem\np+11\n0g10\ng11\n\x93" + _PIECE, "system"),
    "names_duplicated": (_short("builtins") + _short("eval") + b"2" + b"10" * 0 + b"\x93" + _PIECE, ""),
    "class_of_names_popped": (b"(" + _short("os") + b"1" + _short("posix") + _short("system") + b"\x93" + _PIECE, "system"),
    "protocol_again": (b"\x80\x00cposix\nsystem\n\x80\x05" + _PIECE, "system"),
    "frame_that_lies": (b"\x95" + struct.pack("<Q", 1 << 50) + SYSTEM, "system"),
    "frame_over_the_end": (b"\x95" + struct.pack("<Q", 3) + SYSTEM, "system"),
    "frames_of_nothing": (b"\x95" + bytes(8) + b"\x95" + bytes(8) + SYSTEM, "system"),
    "newobj_of_copyreg": (call("copyreg.__newobj__", b"cposix\nsystem\n", text(COMMAND)), "system"),
    "newobj_ex_of_copyreg": (call("copyreg.__newobj_ex__", b"csubprocess\nPopen\n", b")", b"}" + text("args") + text("x") + b"s"), "Popen"),
    "extension_registered": (call("copyreg.add_extension", text("posix"), text("system"), b"K\x05") + b"0\x82\x05" + _PIECE, "add_extension"),
    "reducer_registered": (call("copyreg.pickle", b"ctorch\nSize\n", b"cposix\nsystem\n"), "copyreg.pickle"),
    "partial_of_state": (
        b"cfunctools\npartial\n(cbuiltins\nprint\ntR(cposix\nsystem\n(" + text(COMMAND) + b"t}Ntb)R",
        "system",
    ),
    "property_read": (call("builtins.property", b"cposix\nsystem\n"), "system"),
    "type_with_init": (call(call("builtins.type", text("X"), b")", b"}" + text("__init__") + b"cposix\nsystem\ns")), "system"),
    "classmethod_bound": (call("builtins.classmethod", b"cposix\nsystem\n"), "system"),
    "iter_until": (call("builtins.list", call("builtins.iter", b"cposix\nsystem\n", b"K\x00")), "system"),
    "chain_of_map": (call("collections.deque", call("builtins.map", b"cposix\nsystem\n", b"(" + text(COMMAND) + b"l")), "system"),
    "counter_of_map": (call("collections.Counter", call("builtins.map", b"cposix\nsystem\n", b"(" + text(COMMAND) + b"l")), "system"),
    "ordered_dict_of_map": (call("collections.OrderedDict", call("builtins.map", b"cposix\nsystem\n", b"(" + text(COMMAND) + b"l")), "system"),
    "size_of_map": (call("torch.Size", call("builtins.map", b"cposix\nsystem\n", b"(" + text(COMMAND) + b"l")), "system"),
    "ndarray_of_map": (call("numpy.array", call("builtins.map", b"cposix\nsystem\n", b"(" + text(COMMAND) + b"l")), "system"),
    "items_of_call": (b"](" + SYSTEM + SYSTEM + b"e", "system"),
    "state_of_call": (call("argparse.Namespace") + SYSTEM + b"b", "system"),
    "state_slots_of_call": (call("argparse.Namespace") + b"(N" + SYSTEM + b"tb", "system"),
    "hooks_of_call": (tensor().replace(HOOKS, SYSTEM), "system"),
    "storage_class_by_stack": (tensor(storage=STORAGE.replace(b"ctorch\nFloatStorage\n", _short("posix") + _short("system") + b"\x93")), "system"),
    "device_of_call": (tensor(storage=STORAGE.replace(text("cpu"), SYSTEM)), "system"),
    "numpy_dtype_state": (call("numpy.dtype", text("O"), b"\x89\x88") + b"(K\x03" + SYSTEM + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb", "system"),
    "enum_by_value": (call(call("enum.Enum", text("E"), b"(" + text("a") + b"l")), "Enum"),
    "string_formatted": (call(call("builtins.getattr", text("{0.__class__}"), text("format")), b"ctorch\nSize\n"), "getattr"),
    "ast_literal": (call("ast.literal_eval", text("()" * 10)), "literal_eval"),
    "warnings_filter": (call("warnings._getcategory", text("posix.system")), "_getcategory"),
    "torch_ops_library": (call("torch.ops.load_library", text("/tmp/x.so")), "load_library"),
    "torch_classes_library": (call("torch.classes.load_library", text("/tmp/x.so")), "load_library"),
    "torch_storage_from_file": (call("torch.FloatStorage.from_file", text("/etc/passwd"), b"\x89", b"K\x04"), "from_file"),
    "torch_tensor_set_state": (tensor() + b"(N}" + text("__setstate__") + b"cposix\nsystem\nstb", "system"),
    "module_of_unknown_class": (b"cevil_package.net\nNet\n)\x81}" + text("training") + b"\x88sb", "evil_package"),
    "lambda_of_lightning": (call("lightning.pytorch.core.saving._load_state", text("x")), "_load_state"),
    "omegaconf_resolver": (call("omegaconf.OmegaConf.register_new_resolver", text("x"), b"cposix\nsystem\n"), "system"),
    "pathlib_unlink": (call(call("builtins.getattr", call("pathlib.PosixPath", text("/tmp/x")), text("unlink"))), "getattr"),
}  # fmt: skip


def _pickles() -> Iterator[Case]:
    for trick, (body, word) in TRICKS.items():
        for protocol, suffix in ((4, "pth"), (2, "pkl")):
            whole = b"}" + text("w") + tensor() + b"s" + text("x") + body + b"s" if suffix == "pth" else b"}" + text("x") + body + b"s"
            content = pickled(whole, protocol)
            made = torch_zip(content) if suffix == "pth" else content
            yield Case(f"more_{trick}.{suffix}", made, "finding refuse" if word else ANY, word)


MALFORMED: dict[str, bytes] = {
    "memo_index_of_underscores": b"Np_1\n",
    "memo_index_of_4000_digits": b"Np" + b"9" * 3999 + b"\n",
    "stack_global_of_numbers": b"K\x01K\x02\x93",
    "stack_global_of_one": text("os") + b"\x93",
    "stack_global_of_surrogates": b"X\x03\0\0\0\xed\xa0\x80" * 2 + b"\x93" + _PIECE + b"\xff",
    "newobj_ex_of_list": b"ctorch\nSize\n]]\x92\xff",
    "newobj_without_arguments": b"ctorch\nSize\n\x81",
    "obj_of_number": b"(K\x01N" + b"o\xff",
    "ext_of_nothing": b"\x82",
    "ext4_negative": b"\x84\xff\xff\xff\xff\xff",
    "persistent_line_cut": b"P12",
    "additems_on_dict": b"}(N\x90\xff",
    "frozenset_without_mark": b"\x91",
    "long1_empty_then_cut": b"\x8a\x00\x8a",
    "long_of_letters": b"Labc\n",
    "binunicode_past_by_one": b"X\x02\0\0\0a",
    "stop_behind_mark": b"N(.",
    "string_of_nul_quote": b"S'\n",
    "build_on_text": text("x") + b"}b",
    "setitems_odd": b"}(NNNu",
}


def _malformed() -> Iterator[Case]:
    for kind, body in MALFORMED.items():
        content = b"\x80\x04" + body  # nothing ends it
        yield Case(f"more_{kind}.pkl", content, "refuse")
        yield Case(f"more_{kind}.pth", torch_zip(content), "refuse")
    calls = b"cposix\nsystem\n" + _PIECE
    yield Case("more_code_then_protocol_9.pkl", b"\x80\x04" + calls + b"\x80\x09.", "refuse", "system")
    yield Case("more_code_then_marks.pth", torch_zip(b"\x80\x04" + calls + b"((((."), "refuse finding", "system")
    yield Case("more_code_without_protocol.pkl", calls + b".", "refuse finding", "system")
    yield Case(
        "more_code_of_protocol_1.pkl", b"(" + b"iposix\nsystem\n".replace(b"i", text(COMMAND) + b"i", 1) + b".", "refuse finding", "system"
    )
    yield Case("more_second_pickle.pkl", pickled(b"}") + EVIL, "refuse finding", "system")
    yield Case("more_third_pickle.pkl", pickled(b"}") * 2 + EVIL, "refuse finding", "system")
    yield Case("more_pickle_behind_zeros.pkl", pickled(b"}") + bytes(64) + EVIL, EITHER)


def _tensors() -> Iterator[Case]:
    quantised = call(
        "torch._utils._rebuild_qtensor",
        STORAGE.replace(b"FloatStorage", b"QInt8Storage"),
        *(b"K\x00", b"K\x04\x85", b"K\x01\x85", b"(ctorch\nper_tensor_affine\n" + SYSTEM + b"K\x00t", b"\x89", HOOKS),
    )
    for kind, body, verdict in (
        ("quantised_by_call", quantised, EITHER),
        ("offset_and_stride_wrap", tensor(offset=b"\x8a\x08" + struct.pack("<q", 1 << 61), stride=b"\x8a\x08" + struct.pack("<q", 1 << 62) + b"\x85"), "refuse"),
        ("stride_zero_huge", tensor(size=b"\x8a\x08" + struct.pack("<q", 1 << 60) + b"\x85", stride=b"K\x00\x85"), ANY),
        ("size_of_nothing_huge", tensor(size=b"(K\x00\x8a\x08" + struct.pack("<q", 1 << 62) + b"t", stride=b"K\x01K\x01\x86"), ANY),
        ("more_strides_than_sizes", tensor(stride=b"K\x01K\x01\x86"), "refuse"),
        ("sizes_as_list", tensor(size=b"]K\x04a"), ANY),
        ("rebuilt_by_function_of_storage", call("torch._utils._rebuild_tensor", STORAGE, b"K\x00", b"K\x04\x85", b"K\x01\x85"), ANY),
        ("storage_elements_negative", tensor(storage=STORAGE.replace(b"K\x04t", b"J\xff\xff\xff\xfft")), "refuse"),
        ("storage_elements_2e62", tensor(storage=STORAGE.replace(b"K\x04t", b"\x8a\x08" + struct.pack("<q", 1 << 62) + b"t")), "refuse"),
        ("storage_key_with_nul", tensor(storage=STORAGE.replace(text("0"), text("0\0"))), "refuse"),
        ("storage_key_unnormal", tensor(storage=STORAGE.replace(text("0"), text("./0"))), "refuse"),
        ("storage_typed_untyped", tensor(storage=STORAGE.replace(b"FloatStorage", b"storage.UntypedStorage")), EITHER),
        ("device_escape", tensor(storage=STORAGE.replace(text("cpu"), text("\x1b[31mcpu"))), ANY),
    ):  # fmt: skip
        yield Case(f"more_{kind}.pth", torch_zip(state_dict(w=body)), verdict, "", ("\x1b",))


def _zips() -> Iterator[Case]:
    good = state_dict()
    wide = lambda *numbers: struct.pack("<2H", 1, 8 * len(numbers)) + struct.pack(f"<{len(numbers)}Q", *numbers)  # noqa: E731
    inner = torch_zip(state_dict(SYSTEM))
    yield Case("more_zip64_local_only.pth", torch_zip(good, options={"local_extra": wide(1, 1)}), ANY)
    yield Case("more_zip64_twice.pth", torch_zip(good, options={"extra": wide(len(good), len(good)) * 2}), ANY)
    yield Case("more_zip64_where_not_needed.pth", torch_zip(good, options={"extra": wide(1 << 40, 1 << 40)}), ANY)
    yield Case(
        "more_zip64_extra_longer_than_field.pth",
        torch_zip(good, options={"extra": struct.pack("<2H", 1, 60_000), "central_sizes": (0xFFFFFFFF, 0xFFFFFFFF)}),
        "refuse",
    )
    yield Case(
        "more_zip64_size_alone.pth", torch_zip(good, options={"extra": wide(len(good)), "central_sizes": (len(good), 0xFFFFFFFF)}), ANY
    )
    yield Case(
        "more_extra_unicode_path.pth", torch_zip(good, options={"extra": struct.pack("<2HBI", 0x7075, 15, 1, 0) + b"a/evil.pkl"}), ANY
    )
    yield Case(
        "more_descriptor_without_signature.pth",
        torch_zip(good, options={"flags": 8, "local_sizes": (0, 0), "tail": struct.pack("<3I", zlib.crc32(good), len(good), len(good))}),
        ANY,
    )
    yield Case(
        "more_descriptor_of_64_bits.pth",
        torch_zip(
            good,
            options={
                "flags": 8,
                "local_sizes": (0, 0),
                "tail": b"PK\x07\x08" + struct.pack("<I2Q", zlib.crc32(good), len(good), len(good)),
            },
        ),
        ANY,
    )
    yield Case(
        "more_descriptor_hides_member.pth",
        torch_zip(good, options={"flags": 8, "local_sizes": (0, 0), "tail": b"PK\x07\x08" + bytes(12) + inner}),
        EITHER,
    )
    yield Case("more_zip_in_zip.pth", zipped([("a/data.pkl", inner), ("a/version", b"3")]), "refuse")
    yield Case("more_zip_of_zip.zip", zipped([("model.pth", inner)]), "refuse", "unpack")
    yield Case("more_pickle_beside.pth", torch_zip(good, ("a/data/1.pkl", EVIL)), EITHER, "system")
    yield Case("more_pickle_in_extra.pth", torch_zip(good, ("a/extra/x.pkl", EVIL)), EITHER, "system")
    yield Case("more_pickle_without_object.zip", zipped([("x/weights.pkl", EVIL)]), "refuse", "system")
    yield Case("more_pickle_of_office.docx", zipped([("[Content_Types].xml", b"<x/>"), ("word/a.PICKLE", EVIL)]), "refuse", "system")
    yield Case("more_pickle_as_version.pth", zipped([("a/data.pkl", good), ("a/data/0", FOUR), ("a/version", EVIL)]), ANY)
    yield Case("more_two_roots_deep.pth", torch_zip(good, ("b/c/data.pkl", EVIL)), EITHER)
    yield Case("more_root_of_spaces.pth", zipped([(" /data.pkl", state_dict(SYSTEM)), (" /data/0", FOUR)]), EITHER, "system")
    yield Case("more_object_with_slash.pth", zipped([("a/data.pkl/", state_dict(SYSTEM)), ("a/data/0", FOUR)]), EITHER)
    yield Case("more_object_with_nul.pth", zipped([("a/data.pkl\0.txt", state_dict(SYSTEM)), ("a/data/0", FOUR)]), EITHER)
    yield Case("more_object_of_other_case.pth", zipped([("a/DATA.PKL", state_dict(SYSTEM)), ("a/data/0", FOUR)]), EITHER, "system")
    yield Case("more_all_of_other_case.pth", zipped([("A/Data.Pkl", good), ("a/DATA/0", FOUR)]), EITHER, "DATA.PKL")
    yield Case("more_root_of_other_case.pth", zipped([("a/data.pkl", good), ("A/DATA/0", FOUR), ("A/Version", b"3")]), ANY)
    yield Case(
        "more_code_of_other_case.pt", zipped([("a/data.pkl", good), ("a/data/0", FOUR), ("a/CODE/x.py", b"def f(): torch.save(1)")]), EITHER
    )
    yield Case("more_nothing_but_descriptor.pth", b"PK\x07\x08" + bytes(60), "refuse")
    yield Case("more_end_record_twice_apart.pth", torch_zip(good) + torch_zip(state_dict(SYSTEM))[-22:], ANY)
    yield Case("more_deflate_of_nothing.pth", torch_zip(b"", options={"method": 8}), "refuse")
    yield Case(
        "more_deflate_stored_block.pth",
        torch_zip(good, options={"method": 8, "packed": b"\x01" + struct.pack("<2H", len(good), len(good) ^ 0xFFFF) + good}),
        ANY,
    )
    yield Case(
        "more_deflate_not_ended.pth",
        torch_zip(good, options={"method": 8, "packed": b"\x00" + struct.pack("<2H", len(good), len(good) ^ 0xFFFF) + good}),
        "refuse",
    )
    yield Case("more_directory_of_100_mb.pth", _large_directory, "refuse")


def _large_directory(path: Path) -> None:
    """An end record for a directory that fills nearly all of a file of 120 MB, which is a hole."""
    size = 120 << 20
    with path.open("wb") as file:
        file.write(b"PK\x03\x04" + bytes(60))
        file.truncate(size)
        file.seek(size)
        file.write(struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 9, 9, size - 100, 100, 0))


def _headers() -> Iterator[Case]:
    def raw(words: str | bytes) -> bytes:
        return safetensors(words if isinstance(words, bytes) else words.encode("utf-8", "surrogatepass"), FOUR)

    one = '"dtype":"F32","shape":[4],"data_offsets":[0,16]'
    deep = '{"a":' * 900 + "{" + one + "}" + "}" * 900
    for kind, content in {
        "key_twice_in_entry": '{"w":{"dtype":"F32","shape":[4],"shape":[4],"data_offsets":[0,16]}}',
        "key_twice_by_escape": '{"w":{"dtype":"F32","shape":[4],"\\u0073hape":[1],"data_offsets":[0,16]}}',
        "name_twice_by_surrogates": '{"\\ud83d\\ude00":{' + one + '},"\U0001f600":{' + one + "}}",
        "entry_deep": deep,
        "shape_1e2": '{"w":{"dtype":"F32","shape":[4e0],"data_offsets":[0,16]}}',
        "shape_of_5000_digits": '{"w":{"dtype":"F32","shape":[' + "9" * 5000 + '],"data_offsets":[0,16]}}',
        "shape_wraps_to_four": '{"w":{"dtype":"F32","shape":[4611686018427387905,4],"data_offsets":[0,16]}}',
        "offsets_of_three": '{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16,16]}}',
        "offsets_2e64": '{"w":{"dtype":"F32","shape":[4],"data_offsets":[18446744073709551616,18446744073709551632]}}',
        "dtype_of_two": '{"w":{"dtype":["F32"],"shape":[4],"data_offsets":[0,16]}}',
        "dtype_long": '{"w":{"dtype":"' + "F" * 100_000 + '","shape":[4],"data_offsets":[0,16]}}',
        "metadata_is_tensor": '{"__metadata__":{' + one + "}}",
        "nan_offset": '{"w":{"dtype":"F32","shape":[4],"data_offsets":[NaN,16]}}',
        "comment_within": '{/*x*/"w":{' + one + "}}",
        "lone_surrogate_raw": b'{"\xed\xa0\x80":{' + one.encode() + b"}}",
        "nul_between": '{\0"w":{' + one + "}}",
    }.items():
        verdict = ANY if kind in ("metadata_is_tensor",) else "refuse finding"
        yield Case(f"more_{kind}.safetensors", raw(content), verdict)
    yield Case("more_length_minus_8.safetensors", safetensors({"w": entry([4], [0, 16])}, FOUR, (1 << 64) - 8), "refuse")
    yield Case("more_header_is_data.safetensors", safetensors({"w": entry([4], [0, 16])}, b"") + safetensors({"w": entry()}, FOUR), EITHER)
    yield Case(
        "more_names_that_collide.safetensors", safetensors({"a.b": entry([2], [0, 8]), "a": entry([2], [8, 16])}, FOUR), "ok finding"
    )
    yield Case("more_zip_behind.safetensors", safetensors({"w": entry([4], [0, 16])}, FOUR) + torch_zip(state_dict(SYSTEM)), EITHER)


def _named(name: str, dtype: int = 1, raw: bytes = FOUR) -> bytes:
    return _tensor(name, raw=raw, dtype=dtype)


def _node(op: str, inputs: tuple[str, ...], outputs: tuple[str, ...], *attributes: bytes, name: str = "") -> bytes:
    parts = [field(1, one) for one in inputs] + [field(2, one) for one in outputs] + [field(3, name), field(4, op)]
    return field(1, b"".join([*parts, *(field(5, attribute) for attribute in attributes)]))


def _port(number: int, name: str, *sizes: int | str) -> bytes:
    dims = b"".join(field(1, field(1, size) if isinstance(size, int) else field(2, size)) for size in sizes)
    return field(number, field(1, name) + field(2, field(1, field(1, 1) + field(2, dims))))


def _outside(*entries: tuple[str, str]) -> bytes:
    return _tensor(raw=None, more=b"".join(field(13, field(1, k) + field(2, v)) for k, v in entries) + field(14, 1))


def _exports() -> Iterator[Case]:
    ports = _port(11, "x", 1, 3, 4, 4) + _port(12, "y", 1, 4)
    ints = lambda name, *values: field(1, name) + b"".join(field(8, value) for value in values)  # noqa: E731
    number = lambda name, value: field(1, name) + field(3, value)  # noqa: E731
    for kind, nodes in {
        "cycle_of_casts": _node("Cast", ("y",), ("z",)) + _node("Cast", ("z",), ("y",)),
        "value_made_twice": _node("Relu", ("x",), ("y",)) + _node("Relu", ("x",), ("y",)),
        "value_of_itself": _node("Relu", ("y",), ("y",)),
        "softmax_of_axes": _node("Softmax", ("x",), ("y",), ints("axis", 1, 2)),
        "softmax_of_text": _node("Softmax", ("x",), ("y",), field(1, "axis") + field(4, "one")),
        "softmax_of_axis_minus_2e63": _node("Softmax", ("x",), ("y",), number("axis", -(1 << 63))),
        "transpose_out_of_range": _node("Transpose", ("w",), ("v",), ints("perm", 9, -9)) + _node("MatMul", ("x", "v"), ("y",)),
        "conv_of_groups_0": _node("Conv", ("x", "w"), ("y",), number("group", 0)),
        "conv_without_inputs": _node("Conv", (), ("y",)),
        "conv_of_empty_names": _node("Conv", ("", "", ""), ("", "")),
        "norm_without_statistics": _node("BatchNormalization", ("x", "w"), ("y",)),
        "thousand_outputs": _node("Split", ("x",), tuple(f"o{n}" for n in range(20_000))),
        "attribute_twice": _node("Conv", ("x", "w"), ("y",), number("group", 1), number("group", 3)),
        "attribute_of_itself": _node("If", ("x",), ("y",), field(1, "then_branch") + field(6, b"") + field(6, b"")),
        "names_of_escapes": _node("Relu\x1b[31m", ("x",), ("y",), name="\u202e\x1b]0;x\x07"),
    }.items():
        yield Case(f"more_{kind}.onnx", _onnx(_tensor(), nodes=nodes, graph=ports), ANY, "", ("\x1b", "\u202e"))
    chain = b"".join(_node("Mul", (f"v{n}", f"v{n}"), (f"v{n + 1}",)) for n in range(20_000))
    yield Case("more_squares_20000.onnx", _onnx(_tensor(), nodes=_node("Relu", ("x",), ("v0",)) + chain, graph=ports), ANY)
    yield Case("more_input_2e62.onnx", _onnx(_tensor(), graph=_port(11, "x", 1, 3, 1 << 62, 1 << 62) + _port(12, "y")), ANY)
    yield Case("more_input_of_100_axes.onnx", _onnx(_tensor(), graph=_port(11, "x", *[1] * 100)), EITHER)
    yield Case("more_size_of_escapes.onnx", _onnx(_tensor(), graph=_port(11, "x", "\x1b[31m", 3, "\u202e")), ANY, "", ("\x1b", "\u202e"))
    yield Case("more_initializer_is_input_twice.onnx", _onnx(_tensor(), graph=_port(11, "w", 4) * 2), ANY)
    for kind, entries in {
        "backslashes": [("location", "a\\..\\..\\x")],
        "percent": [("location", "%2e%2e/x")],
        "file_url": [("location", "file:///etc/passwd")],
        "home": [("location", "~/x")],
        "newline": [("location", "w\n.bin")],
        "of_nothing": [("location", ".")],
        "full_width_dots": [("location", "\uff0e\uff0e/x")],
        "offset_of_2e63": [("location", "w.bin"), ("offset", str(1 << 63))],
        "offset_wraps": [("location", "w.bin"), ("offset", str((1 << 64) - 8)), ("length", "16")],
        "checksum_wrong": [("location", "w.bin"), ("checksum", "0" * 40)],
        "key_unknown": [("location", "w.bin"), ("exec", "x")],
    }.items():
        yield Case(f"more_outside_{kind}.onnx", _beside(_onnx(_outside(*entries))), ANY, "", ("\x1b",))


def _bundles() -> Iterator[Case]:
    pair = (b"w", _place())
    first = stored(block([HEADER, pair]))
    for kind, content, verdict in (
        ("index_of_itself", table([HEADER, pair], index=[(b"\xff", varint(len(first)) + varint(20))]), "refuse"),
        ("handles_descend", table([HEADER, pair], index=[(b"a", varint(len(first) - 5) + varint(0)), (b"b", varint(0) + varint(len(first) - 5))]), "refuse"),
        ("handle_of_zero", table([HEADER, pair], index=[(b"\xff", varint(0) + varint(0))]), "refuse"),
        ("restart_in_key", table(block([HEADER, pair], tail=struct.pack("<3I", 1, 2, 2))), ANY),
        ("shared_more_than_key", table(varint(0) + varint(0) + varint(len(HEADER[1])) + HEADER[1] + varint(5) + varint(1) + varint(0) + b"w" + struct.pack("<2I", 0, 1)), "refuse"),
        ("key_prefixes_descend", table([HEADER, (b"b", _place()), (b"a", _place())]), "refuse"),
        ("entry_crc_wrong", table([HEADER, (b"w", _place(more=varint(6 << 3 | 5) + b"\xff" * 4))]), ANY),
        ("names_of_parts", table([HEADER, *((b"a/" * 300 + bytes((65 + n,)), _place()) for n in range(3))]), "refuse"),
        ("name_of_digits", table([HEADER, (b"9" * 6_000, _place())]), "refuse"),
        ("variant", table([HEADER, (b"w", _place(21, (), size=16))]), ANY),
        ("overlap", table([HEADER, (b"v", _place()), (b"w", _place(offset=4, shape=(3,), size=12))]), "finding"),
        ("whole_of_slices_of_itself", table([HEADER, (b"w", _place(more=field(7, field(1, field(1, 0) + field(2, 4)))))]), "refuse"),
    ):  # fmt: skip
        yield Case(f"more_{kind}.index", _bundle(content), verdict)


def _reopened(change: Callable[[bytearray], object], **options: Any) -> Callable[[Path], None]:
    """A good file of two datasets, whose bytes are then changed."""

    def make(path: Path) -> None:
        _hdf5(
            lambda file: (file.create_dataset("g/w", data=np.ones(4, "f4")), file.create_dataset("g/v", data=np.ones(4, "f4"))), **options
        )(path)
        content = bytearray(path.read_bytes())
        change(content)
        path.write_bytes(content)

    return make


def _at(word: bytes, offset: int, new: bytes, occurrence: int = 0) -> Callable[[bytearray], object]:
    def change(content: bytearray) -> None:
        at = -1
        for _ in range(occurrence + 1):
            at = content.find(word, at + 1)
        content[at + offset : at + offset + len(new)] = new

    return change


def _soft_tower(file: h5py.File) -> None:
    for level in range(200):
        file[f"l{level}"] = h5py.SoftLink(f"/l{level + 1}")
    file["l200"] = h5py.SoftLink("/l0")
    file.create_dataset("w", data=np.ones(4, "f4"))


def _hard_fans(file: h5py.File) -> None:
    """Thirty groups, each of which holds the next one twenty times: 20³⁰ paths."""
    at = file
    for _ in range(30):
        child = at.create_group("0")
        for number in range(1, 20):
            at[str(number)] = child
        at = child
    at.create_dataset("w", data=np.ones(4, "f4"))


def _shared_type(file: h5py.File) -> None:
    file["t"] = np.dtype("f4")
    file.create_dataset("w", (4,), file["t"])


def _endless_heap(path: Path) -> None:
    """Found by fuzzing: libhdf5 looks neither at three bytes of a heap's signature nor at whether it gets on within."""
    _hdf5(lambda file: _legacy(file, names=np.array(["a", "b"], h5py.string_dtype())))(path)
    content = bytearray(path.read_bytes())
    at = content.find(b"GCOL")
    while at >= 0:
        content[at + 5 : at + 8] = b"\xff" * 3
        content[at + 24 : at + 32] = struct.pack("<Q", (1 << 64) - 16)
        at = content.find(b"GCOL", at + 1)
    path.write_bytes(content)


def _long_string(path: Path) -> None:
    """A string in a heap that says it has two billion characters."""

    def named(file: h5py.File) -> None:
        _legacy(file, names=np.array(["a name of its own"], h5py.string_dtype()))
        file["elsewhere"] = h5py.SoftLink("/w")  # which only libhdf5 reads

    _hdf5(named)(path)
    content = path.read_bytes()
    heap = struct.pack("<Q", content.find(b"GCOL"))
    told = struct.pack("<I", len("a name of its own")) + heap
    assert told in content
    path.write_bytes(content.replace(told, struct.pack("<I", (1 << 31) - 1) + heap))


def _files() -> Iterator[Case]:
    past = struct.pack("<Q", (1 << 64) - 16)
    layered = {"class_name": "Sequential", "config": {"name": "s", "layers": [LAMBDA]}}
    for kind, make, verdict in (
        ("soft_tower", _hdf5(_soft_tower), EITHER),
        ("hard_fans", _hdf5(_hard_fans), ANY),
        ("shared_type", _hdf5(_shared_type), ANY),
        ("external_of_proc", _external("/proc/self/mem"), EITHER),
        ("external_relative", _external("../../../../etc/passwd"), EITHER),
        ("external_by_environment", _external("${HOME}/x.h5"), EITHER),
        ("external_prefix", _hdf5(lambda f: f.create_dataset("w", shape=(4,), dtype="f4", external=[("./x.bin", 0, h5py.h5f.UNLIMITED)])), EITHER),
        ("chunk_index_of_2e40", _hdf5(lambda f: f.create_dataset("w", shape=(1 << 40, 1 << 20), dtype="f4", chunks=(1, 1))), ANY),
        ("chunks_by_btree_2", _hdf5(lambda f: f.create_dataset("w", shape=(64, 64), maxshape=(None, None), dtype="f4", chunks=(8, 8)), libver="latest"), ANY),
        ("dense_links", _hdf5(lambda f: [f.create_dataset(f"w{n}", data=np.ones(2, "f4")) for n in range(300)], libver="latest"), ANY),
        ("dense_attributes", _hdf5(lambda f: [f.attrs.__setitem__(f"a{n}", np.ones(3)) for n in range(300)], libver="latest"), ANY),
        ("attribute_of_references", _hdf5(lambda f: (f.create_dataset("w", data=np.ones(4, "f4")), f.attrs.__setitem__("layer_names", f["w"].ref))), ANY),
        ("attribute_of_compounds", _hdf5(lambda f: _legacy(f, names=np.zeros(3, [("a", "S4"), ("b", "f4")]))), ANY),
        ("attribute_of_vlen_bytes", _hdf5(lambda f: h5py.h5a.create(f.id, b"layer_names", h5py.h5t.py_create(h5py.vlen_dtype("u1"), logical=True), h5py.h5s.create_simple((2,)))), ANY),
        ("attribute_empty_space", _hdf5(lambda f: _legacy(f, names=h5py.Empty("S4"))), ANY),
        ("names_not_utf8", _hdf5(lambda f: _legacy(f, names=np.array([b"\xff\xfe", b"\x1b[31m"]))), EITHER),
        ("config_of_lambda_by_bytes", _hdf5(lambda f: _legacy(f, config=layered)), EITHER),
        ("heap_that_does_not_end", _endless_heap, EITHER),
        ("string_of_2_gib", _long_string, ANY),
        ("tree_of_itself", _reopened(_at(b"TREE", 8, bytes(16))), EITHER),
        ("tree_level_255", _reopened(_at(b"TREE", 5, b"\xff")), EITHER),
        ("tree_entries_65535", _reopened(_at(b"TREE", 6, b"\xff\xff")), EITHER),
        ("table_entries_65535", _reopened(_at(b"SNOD", 6, b"\xff\xff")), EITHER),
        ("table_name_past", _reopened(_at(b"SNOD", 8, past)), EITHER),
        ("table_object_past", _reopened(_at(b"SNOD", 16, past)), EITHER),
        ("table_object_is_root", _reopened(_at(b"SNOD", 16, struct.pack("<Q", 96))), ANY),
        ("heap_free_of_itself", _reopened(_at(b"HEAP", 16, struct.pack("<Q", 8))), ANY),
        ("heap_of_2e63", _reopened(_at(b"HEAP", 8, struct.pack("<Q", 1 << 63))), EITHER),
        ("heap_elsewhere", _reopened(_at(b"HEAP", 24, past)), EITHER),
        ("end_before_the_data", _reopened(lambda c: c.__setitem__(slice(40, 48), struct.pack("<Q", 1000))), EITHER),
        ("base_address_8", _reopened(lambda c: c.__setitem__(slice(24, 32), struct.pack("<Q", 8))), EITHER),
        ("user_block_base_0", _reopened(lambda c: c.__setitem__(slice(512 + 24, 512 + 32), bytes(8)), userblock_size=512), EITHER),
        ("user_block_base_past", _reopened(lambda c: c.__setitem__(slice(512 + 24, 512 + 32), past), userblock_size=512), EITHER),
        ("user_block_end_short", _reopened(lambda c: c.__setitem__(slice(512 + 40, 512 + 48), struct.pack("<Q", 700)), userblock_size=512), EITHER),
        ("two_superblocks", _reopened(lambda c: c.__setitem__(slice(0, 0), bytes(c[:96]).ljust(512, b"\0"))), EITHER),
        ("checksum_of_header", _reopened(_at(b"OHDR", 8, b"\xff"), libver="latest"), EITHER),
        ("continuation_past", _reopened(_at(b"OHDR", 20, past), libver="latest"), EITHER),
    ):  # fmt: skip
        yield Case(f"more_{kind}.h5", make, verdict, "", ("\x1b",))


def _archives() -> Iterator[Case]:
    model = _model(DENSE)
    for kind, layer, word in (
        ("lambda_as_metric", _given({"metrics": [LAMBDA]}), "Lambda"),
        ("lambda_in_dict_key", _given({"a": {"b": [{"c": LAMBDA}]}}), "Lambda"),
        ("lambda_escaped", json.loads(json.dumps(LAMBDA).replace("Lambda", "\\u004cambda")), "Lambda"),
        ("lambda_of_other_module", _object("tf_keras.layers", "Lambda", {"name": "l"}), "Lambda"),
        ("lambda_registered_package", _object("builtins", "x", {}, "pkg>Lambda"), ""),
        ("function_of_ctypes", _given({"activation": _function("ctypes", "CDLL")}), "ctypes"),
        ("function_of_runpy", _given({"kernel_constraint": _function("runpy", "run_path")}), "runpy"),
        ("function_of_keras_ops_loader", _given({"activation": _function("keras.ops", "load")}), ""),
        ("module_traversal", _object("keras.layers.../../os", "system", {"name": "x"}), "system"),
        ("module_of_escapes", _object("os\x1b[31m", "system", {"name": "x"}), "system"),
        ("module_number", {**DENSE, "module": 7}, ""),
        ("class_list", {**DENSE, "class_name": ["Lambda"]}, ""),
        ("class_null", {**DENSE, "class_name": None}, ""),
        ("bytes_object", _given({"x": {"class_name": "__bytes__", "config": {"value": "aGk="}}}), ""),
        ("slice_object", _given({"x": {"class_name": "__slice__", "config": {"value": {"start": 0}}}}), ""),
        ("torch_module", _object("keras.src.utils.torch_utils", "TorchModuleWrapper", {"name": "t", "module": "gAQ="}), "Torch"),
        ("file_in_vocabulary", _object("keras.layers", "TextVectorization", {"name": "t", "vocabulary": "file:///etc/passwd"}), "vocabulary"),
    ):  # fmt: skip
        yield Case(f"more_{kind}.keras", _keras(_model(DENSE, layer)), EITHER if word else ANY, word, ("\x1b",))
    yield Case("more_config_of_million_lists.keras", _keras(b"[" * 500_000), ANY)
    yield Case(
        "more_config_numbers_of_digits.keras", _keras(json.dumps(model).replace('"units": 2', '"units": ' + "9" * 5000).encode()), ANY
    )
    yield Case(
        "more_weights_at_other_case.keras",
        zipped([("config.json", json.dumps(model).encode()), ("Model.Weights.h5", b"x"), ("metadata.json", b"{}")]),
        "refuse",
    )
    yield Case("more_shards_of_weights.keras", _keras(model, ("model_00000.weights.h5", b"\x89HDF\r\n\x1a\n")), ANY)
    yield Case("more_python_file.keras", _keras(model, ("model.py", b"import os"), ("__init__.py", b"")), ANY)


def cases() -> dict[str, list[Case]]:
    """Constructions by class."""
    return {
        "pickle-tricks": list(_pickles()),
        "pickle-malformed": list(_malformed()),
        "torch-tensor": list(_tensors()),
        "zip-container": list(_zips()),
        "safetensors": list(_headers()),
        "onnx": list(_exports()),
        "tf-bundle": list(_bundles()),
        "hdf5": list(_files()),
        "keras-zip": list(_archives()),
    }
