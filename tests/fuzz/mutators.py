"""Mutations that know the format: what they make is broken in one place and whole everywhere else, so that it gets past the first check."""

from __future__ import annotations

import io
import json
import pickletools
import struct
import warnings
import zipfile

INTERESTING = [
    0,
    1,
    2,
    7,
    8,
    16,
    127,
    128,
    255,
    256,
    0x7FFF,
    0x8000,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
]
#: That the reader of computations, the alignment of graphs or the contract of an export treat in a way of their own.
OPERATORS = (
    *("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "Concat", "Split", "Slice", "Gather", "Reshape", "Transpose"),
    *("BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization", "Softmax", "Sigmoid", "ArgMax", "Relu"),
    *("PRelu", "Constant", "ConstantOfShape", "Identity", "Cast", "Shape", "Flatten", "Squeeze", "Unsqueeze", "Resize", "Upsample", "Pad"),
    *("LSTM", "GRU", "Einsum", "Attention", "QuantizeLinear", "DequantizeLinear", "If", "Loop", "Scan", "ReduceMean", "Pow", "Sqrt", "Erf"),
    *("Dropout", "Expand", "Clip", "Where", "Nothing", ""),
)
TEXTS = [
    "",
    "w",
    "..",
    "../x",
    "/etc/passwd",
    "\0",
    "\x1b[31m",
    "\u202e",
    "\ud800",
    "a" * 300,
    "a." * 300,
    "__metadata__",
    "weight",
    "<b>",
    "\n",
]


def flipped(data, random):
    """Bytes changed, taken out, repeated, put in or cut off."""
    data = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4, 16))):
        at = random.randrange(len(data) + 1)
        kind = random.randrange(7)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << random.randrange(8)
        elif kind == 1 and at < len(data):
            data[at] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
        elif kind == 2:
            width = random.choice((2, 4, 8))
            data[at : at + width] = (random.choice(INTERESTING) % 2 ** (8 * width)).to_bytes(width, random.choice(("little", "big")))
        elif kind == 3:
            del data[at : at + random.choice((1, 4, 64))]
        elif kind == 4:
            data[at:at] = data[at : at + random.choice((1, 8, 64))]
        elif kind == 5:
            data[at:at] = random.randbytes(random.choice((1, 4, 16)))
        elif random.random() < 0.3:
            del data[at:]
    return bytes(data)


def pickled(data, random):
    """Opcodes taken out, doubled, exchanged or put in; what is no pickle up to its end is flipped."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            starts = [position for _, _, position in pickletools.genops(data)]
    except Exception:
        return flipped(data, random)
    ends = [*starts[1:], starts[-1] + 1]
    codes = [data[start:end] for start, end in zip(starts, ends, strict=True)]
    for _ in range(random.choice((1, 2, 5))):
        at = random.randrange(len(codes))
        kind = random.randrange(6)
        if kind == 0:
            del codes[at]
        elif kind == 1:
            codes[at:at] = codes[at : at + random.choice((1, 3, 20))]
        elif kind == 2:
            other = random.randrange(len(codes))
            codes[at], codes[other] = codes[other], codes[at]
        elif kind == 3:
            codes.insert(at, random.choice(_OPCODES))
        elif kind == 4:
            codes[at] = flipped(codes[at], random)
        else:
            codes[at] = random.choice(_OPCODES)
        if not codes:
            break
    return b"".join(codes) + data[ends[-1] :]


_OPCODES = [
    *(bytes((code,)) for code in b"(012N\x88\x89.)t\x85\x86\x87]lae\x8f\x90\x91}dsu\x94R\x81\x92oobQ\x97\x98"),
    *(
        b"K\x00",
        b"J\xff\xff\xff\xff",
        b"M\xff\xff",
        b"h\x00",
        b"h\x05",
        b"q\x00",
        b"j\x00\x00\x00\x00",
        b"\x8a\x02\xff\x7f",
        b"I00\n",
        b"F1e5\n",
    ),
    *(
        b"cos\nsystem\n",
        b"cbuiltins\neval\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ccollections\nOrderedDict\n",
        b"cbuiltins\nbytearray\n",
    ),
    *(b"cnumpy.core.multiarray\n_reconstruct\n", b"ctorch.storage\n_load_from_bytes\n", b"c_codecs\nencode\n", b"ctorch\nFloatStorage\n"),
    *(
        b"X\x01\x00\x00\x00w",
        b"\x8c\x06system",
        b"U\x01a",
        b"T\xff\xff\xff\x7f",
        b"X\xff\xff\xff\xff",
        b"\x8e" + b"\xff" * 8,
        b"V\\u0041\n",
        b"S'a'\n",
    ),
    *(b"\x93", b"P1\n", b"\x82\x01", b"\x80\x05", b"\x95" + b"\x01" * 8, b"g0\n", b"p99999999999\n"),
]


def zipped(data, random):
    """Members changed by what they are, renamed, doubled, packed; or a field of the directory."""
    if random.random() < 0.4:
        return _zip_fields(data, random)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info.filename, archive.read(info), info.compress_type) for info in archive.infolist()]
    except Exception:
        return flipped(data, random)
    if not members:
        return flipped(data, random)
    for _ in range(random.choice((1, 1, 2))):
        at = random.randrange(len(members))
        name, content, packed = members[at]
        kind = random.randrange(6)
        if kind <= 2:
            change = (
                pickled if name.endswith(".pkl") else json_text if name.endswith(".json") else hdf5 if name.endswith(".h5") else flipped
            )
            members[at] = (name, change(content, random), packed)
        elif kind == 3:
            members[at] = (
                random.choice([*TEXTS, name.upper(), name + "x", "archive/data.pkl", members[random.randrange(len(members))][0]]),
                content,
                packed,
            )
        elif kind == 4:
            members[at] = (name, content, zipfile.ZIP_DEFLATED)
        else:
            members.insert(random.randrange(len(members) + 1), members[random.randrange(len(members))])
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(out, "w") as archive:
            for name, content, packed in members:
                try:
                    archive.writestr(zipfile.ZipInfo(name), content, packed)
                except (ValueError, UnicodeError, struct.error):
                    continue
    return out.getvalue()


def _zip_fields(data, random):
    data = bytearray(data)
    at = -1
    signature = random.choice((b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"))
    places = [at for at in range(len(data) - 3) if data[at : at + 4] == signature] if data.count(signature) else []
    if not places:
        return flipped(bytes(data), random)
    at = random.choice(places) + random.randrange(4, 50)
    width = random.choice((2, 4, 8))
    data[at : at + width] = (random.choice([*INTERESTING, len(data)]) % 2 ** (8 * width)).to_bytes(width, "little")
    return bytes(data)


def json_value(value, random):
    """A JSON value with one place of it changed."""
    if isinstance(value, (dict, list)) and value and random.random() < 0.9:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = random.choice(keys)
        changed = dict(value) if isinstance(value, dict) else list(value)
        kind = random.random()
        if kind < 0.75:
            changed[key] = json_value(value[key], random)
        elif kind < 0.85:
            del changed[key]
        elif isinstance(changed, dict):
            changed[random.choice(TEXTS)] = changed.pop(key)
        else:
            changed.append(changed[key])
        return changed
    deep = []
    for _ in range(random.choice((1, 500))):
        deep = [deep]
    return random.choice(
        [
            None,
            True,
            -1,
            1.5,
            1e308,
            float("nan"),
            [],
            {},
            deep,
            [0, 0],
            *INTERESTING,
            *TEXTS,
            "F32",
            "BF16",
            "F4",
            "Lambda",
            {"class_name": "Lambda"},
        ]
    )


def json_text(data, random):
    """JSON changed as a value or as text."""
    try:
        value = json.loads(data)
    except ValueError:
        return flipped(data, random)
    if random.random() < 0.2:
        return flipped(data, random)
    return json.dumps(json_value(value, random)).encode("utf-8", "surrogatepass")


def safetensors(data, random):
    """The header changed, its length right again."""
    length = int.from_bytes(data[:8], "little")
    if random.random() < 0.15:
        return flipped(data, random)
    header = json_text(data[8 : 8 + length], random)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def hdf5(data, random):
    """Objects, links, attributes and layouts changed by h5py itself, and bytes of the metadata flipped."""
    import h5py
    import numpy as np

    if random.random() < 0.5:
        file = io.BytesIO(data)
        try:
            with h5py.File(file, "r+") as opened:
                names: list[str] = []
                opened.visit(names.append)
                for _ in range(random.choice((1, 2))):
                    at = opened[random.choice(names)] if names else opened
                    group = at if isinstance(at, h5py.Group) else at.parent
                    kind = random.randrange(9)
                    if kind == 0:
                        at.attrs[random.choice(["layer_names", "weight_names", "model_config", "name", "x"])] = random.choice(
                            [1, b"x", [b"a", b"b"], "text", np.zeros(3), b"{}", [b"../x"]]
                        )
                    elif kind == 1:
                        group[f"soft{random.random()}"] = h5py.SoftLink(random.choice(["/", "..", "/nothing"]))
                    elif kind == 2:
                        group[f"ext{random.random()}"] = h5py.ExternalLink("/etc/hostname", "/x")
                    elif kind == 3 and names:
                        group[f"hard{random.random()}"] = opened[random.choice(names)]
                    elif kind == 4:
                        group.create_dataset(
                            f"c{random.random()}", data=np.ones((50, 3)), chunks=(7, 2), compression=random.choice(["gzip", "lzf", None])
                        )
                    elif kind == 5:
                        group.create_dataset(f"d{random.random()}", shape=(2**40, 4), dtype="f4", chunks=(1, 4))
                    elif kind == 6 and names:
                        del opened[random.choice(names)]
                    elif kind == 7:
                        group.create_dataset(
                            f"t{random.random()}",
                            data=random.choice([b"x", "text", np.array([True]), np.zeros(2, "c8"), np.zeros(2, "i2,f4")]),
                        )
                    elif names:
                        opened.move(random.choice(names), f"moved{random.random()}")
            data = file.getvalue()
        except Exception:
            data = file.getvalue() or data
    if random.random() < 0.8:
        # Metadata lies near signatures; values are most of the file and matter little.
        places = [
            at for word in (b"OHDR", b"TREE", b"SNOD", b"HEAP", b"GCOL", b"FRHP", b"BTHD", b"FSHD", b"OCHK") for at in _found(data, word)
        ]
        changed = bytearray(data)
        for _ in range(random.choice((1, 1, 2, 8))):
            base = random.choice([*places, 0, 0, random.randrange(max(1, len(data)))])
            at = min(base + random.randrange(200), len(changed) - 1)
            if random.random() < 0.5:
                changed[at] = random.choice((0, 1, 0xFF, 0x80, random.randrange(256)))
            else:
                width = random.choice((2, 4, 8))
                changed[at : at + width] = (random.choice([*INTERESTING, len(data), base]) % 2 ** (8 * width)).to_bytes(width, "little")
        data = bytes(changed[: len(data)]) if random.random() < 0.9 else bytes(changed[: random.randrange(len(changed))])
    return data


def _found(data, word):
    at = data.find(word)
    while at >= 0:
        yield at
        at = data.find(word, at + 1)


def table(data, random):
    """Bytes of a table's blocks, with the checksums right again."""
    from ckptaudit.read.protobuf import varint
    from ckptaudit.read.sstable import crc32c

    changed = bytearray(data)
    if len(data) < 60 or random.random() < 0.15:
        return flipped(data, random)
    try:
        footer = data[-48:]
        _, at = varint(footer, 0, ValueError)
        _, at = varint(footer, at, ValueError)
        offset, at = varint(footer, at, ValueError)
        length, at = varint(footer, at, ValueError)
        if offset + length > len(data):
            return flipped(data, random)
        blocks = [(0, offset - 5 if offset > 5 else 0), (offset, length)]
    except ValueError:
        return flipped(data, random)
    start, size = random.choice(blocks)
    for _ in range(random.choice((1, 1, 2, 4))):
        if size:
            changed[start + random.randrange(size)] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
    for start, size in blocks:
        end = start + size
        if end + 5 <= len(changed):
            crc = crc32c(bytes(changed[end : end + 1]), crc32c(bytes(changed[start:end])))
            struct.pack_into("<L", changed, end + 1, ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
    return bytes(changed)


def protobuf(data, random, depth=0):
    """One field of one message changed, and the lengths of all messages around it right again."""
    from ckptaudit.read.protobuf import spans

    if random.random() < 0.1:
        return flipped(data, random)
    try:
        parts = [
            (number, wire, data[value] if isinstance(value, slice) else value)
            for number, wire, value in spans(data, 0, len(data), ValueError)
        ]
    except ValueError:
        return flipped(data, random) if data else b"\x00"
    if not parts:
        return random.choice((b"", b"\x08\x01", random.randbytes(3)))
    at = random.randrange(len(parts))
    number, wire, value = parts[at]
    kind = random.randrange(10)
    if kind == 0:
        del parts[at]
    elif kind == 1:
        parts.insert(random.randrange(len(parts)), parts[at])
    elif kind == 2:
        parts[at] = (random.choice((1, 2, 3, 5, 7, 8, 9, 13, 14)), wire, value)
    elif isinstance(value, int):
        parts[at] = (number, wire, random.choice(INTERESTING))
    elif depth < 8:
        parts[at] = (number, wire, protobuf(value, random, depth + 1))
    else:
        parts[at] = (number, wire, random.choice((b"", flipped(value, random), random.choice(TEXTS).encode("utf-8", "surrogatepass"))))
    return b"".join(_field(*part) for part in parts)


def onnx_graph(data, random):
    """Nodes, values and tensors of a model's graph changed so that it is still one; now and then a field of the message instead."""
    import onnx
    from google.protobuf.message import DecodeError

    if random.random() < 0.25:
        return protobuf(data, random)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        return protobuf(data, random)
    for _ in range(random.choice((1, 1, 2, 4))):
        _change_graph(model.graph, random)
    return model.SerializeToString()


def _change_graph(graph, random):
    import onnx

    nodes, tensors = graph.node, graph.initializer
    values = [name for node in nodes for name in (*node.input, *node.output)] + [tensor.name for tensor in tensors] + ["", "nothing"]

    def value():
        return random.choice(values) if random.random() < 0.9 else random.choice(TEXTS).encode("utf-8", "replace").decode()

    node = random.choice(nodes) if nodes else nodes.add(op_type="Identity")
    tensor = random.choice(tensors) if tensors else None
    kind = random.randrange(18)
    if kind == 0 and node.input:  # also cycles, and values that nothing makes
        node.input[random.randrange(len(node.input))] = value()
    elif kind == 1 and node.output:
        node.output[random.randrange(len(node.output))] = value()
    elif kind == 2:
        random.choice((node.input, node.output)).append(value())
    elif kind == 3:
        del random.choice((node.input, node.output))[random.randrange(2) :]
    elif kind == 4:
        node.op_type = random.choice(OPERATORS)
    elif kind == 5:
        node.domain = random.choice(("", "ai.onnx", "com.microsoft", *TEXTS[:5]))
    elif kind == 6:
        node.name = random.choice([*(other.name for other in nodes), "", "a/b/c", "/", "..", "x" * 200])
    elif kind == 7 and node.attribute:
        _change_attribute(random.choice(node.attribute), random)
    elif kind == 8:
        name = random.choice(
            ("axis", "perm", "axes", "epsilon", "transB", "pads", "strides", "group", "to", "value", "hidden_size", "equation")
        )
        made = random.choice((-1, 7, 2**62, -(2**63), 1.5, float("nan"), [], [0] * 40, [-1, 2**40], "text", b"\xff", "", [0.5]))
        if isinstance(made, list) and not made:
            made = node.attribute.add(name=name, type=onnx.AttributeProto.INTS)
        else:
            node.attribute.append(onnx.helper.make_attribute(name, made))
    elif kind == 9:
        nodes.add().CopyFrom(node)
    elif kind == 10:
        nodes.remove(node)
    elif kind == 11:  # another order
        held = list(nodes)
        random.shuffle(held)
        del nodes[:]
        nodes.extend(held)
    elif kind == 12 and tensor is not None:
        _change_dims(tensor.dims, random)
    elif kind == 13 and tensor is not None:  # another shape, and values to it
        dims = random.choice(
            ((), (0,), (1,), (4,), (2, 3), (1, 2, 1, 2), (1, 1, 1, 1, 1, 1, 3), tuple(reversed(tensor.dims)), (*tensor.dims, 1))
        )
        size = 1
        for dim in dims:
            size *= dim
        if 0 <= size < 100_000:
            tensor.ClearField("raw_data")
            del tensor.dims[:]
            tensor.dims.extend(dims)
            tensor.data_type, tensor.raw_data = random.choice(
                ((1, bytes(4 * size)), (7, bytes(8 * size)), (11, b"\xff" * 8 * size), (9, bytes(size)))
            )
    elif kind == 14 and tensor is not None:
        tensor.name = value()
    elif kind == 15:
        ports = random.choice((graph.input, graph.output))
        port = random.choice(ports) if ports and random.random() < 0.7 else ports.add(name=value())
        if random.random() < 0.5:
            port.name = value()
        shape = port.type.tensor_type.shape
        if shape.dim:
            dim = random.choice(shape.dim)
            if random.random() < 0.5:
                dim.dim_value = random.choice((0, -1, 1, 3, 2**62, -(2**63)))
            else:
                dim.dim_param = random.choice(("N", "", "\n", "x" * 99))
        if random.random() < 0.3:
            del shape.dim[random.randrange(3) :]
        elif random.random() < 0.3:
            shape.dim.add(dim_value=random.choice((0, 1, 3, 2**40)))
    elif kind == 16 and tensor is not None:
        tensors.remove(tensor) if random.random() < 0.5 else tensors.add().CopyFrom(tensor)
    elif kind == 17:  # a graph within a node: the graph itself
        body = onnx.GraphProto()
        body.CopyFrom(graph)
        if body.ByteSize() < 50_000:
            node.attribute.append(onnx.helper.make_attribute(random.choice(("body", "then_branch", "else_branch")), body))


def _change_attribute(attribute, random):
    import onnx

    kind = random.randrange(6)
    if kind == 0:
        attribute.i = random.choice((-1, 0, 1, 7, 2**62, -(2**63)))
    elif kind == 1:
        attribute.f = random.choice((float("nan"), float("inf"), 0, -1, 1e30))
    elif kind == 2:
        _change_dims(attribute.ints, random)
    elif kind == 3:
        attribute.s = random.choice(TEXTS).encode("utf-8", "surrogatepass")
    elif kind == 4:
        attribute.type = random.choice(onnx.AttributeProto.AttributeType.values())
    else:
        attribute.name = random.choice(("axis", "perm", "axes", "", "value", *TEXTS[:6]))


def _change_dims(dims, random):
    if dims and random.random() < 0.6:
        dims[random.randrange(len(dims))] = random.choice((-1, -(2**63), 0, 1, 2, 3, 2**31, 2**62))
    elif dims and random.random() < 0.5:
        del dims[random.randrange(len(dims)) :]
    else:
        dims.extend(random.choice(((0,), (1,), (-1,), (2**40,), (1,) * 20)))


def _field(number, wire, value):
    tag = _varint(number << 3 | wire)
    if wire == 0:
        return tag + _varint(value)
    if wire == 2:
        return tag + _varint(len(value)) + value
    width = 4 if wire == 5 else 8
    return tag + (value % 2 ** (8 * width)).to_bytes(width, "little")


def _varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))
