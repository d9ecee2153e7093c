"""Pickles: code in every guise, evasions, damage, bombs; each alone and as the object of a torch zip; legacy files."""

from __future__ import annotations

import base64
import pickle
import struct
from collections.abc import Iterator

from tests.hostile.making import COMMAND, FOUR, HOOKS, STORAGE, SYSTEM, Case, call, pickled, state_dict, tensor, text, torch_zip

EVIL = pickled(SYSTEM)
STRINGED = b"S'" + COMMAND.encode() + b"'\n"
OS = call("builtins.__import__", text("os"))

#: What each of these calls when the file is loaded; the last part of its name must be told.
CALLED = {
    "builtins": "exec eval compile open __import__ breakpoint input delattr setattr vars globals",
    "os": "popen execv spawnlp posix_spawn remove startfile",
    "posix": "fork kill unlink rmdir",
    "nt": "system",
    "subprocess": "run call check_output getoutput Popen",
    "pip": "main",
    "pip._internal": "main",
    "webbrowser": "open",
    "ctypes": "CDLL cast memmove",
    "importlib": "import_module reload",
    "code": "interact InteractiveInterpreter",
    "cProfile": "run",
    "pdb": "run",
    "bdb": "Bdb",
    "doctest": "debug_script",
    "pydoc": "pipepager locate",
    "trace": "Trace",
    "venv": "create",
    "distutils.spawn": "spawn",
    "distutils.file_util": "write_file",
    "logging.config": "fileConfig listen",
    "smtplib": "SMTP",
    "ftplib": "FTP",
    "urllib.request": "urlopen urlretrieve",
    "http.client": "HTTPSConnection",
    "socket": "create_connection",
    "socketserver": "TCPServer",
    "shelve": "open",
    "sqlite3": "connect",
    "linecache": "getline",
    "glob": "glob",
    "zipimport": "zipimporter",
    "tarfile": "open",
    "tempfile": "NamedTemporaryFile",
    "uuid": "_get_command_stdout",
    "test.support.script_helper": "assert_python_ok",
    "asyncio": "create_subprocess_shell",
    "multiprocessing.util": "spawnv_passfds",
    "concurrent.futures.process": "ProcessPoolExecutor",
    "threading": "Thread",
    "_thread": "start_new_thread",
    "imaplib": "IMAP4_stream",
    "io": "FileIO open_code",
    "codecs": "open",
    "fileinput": "input",
    "mailcap": "findmatch",
    "pkgutil": "resolve_name",
    "site": "addsitedir",
    "inspect": "getattr_static",
    "itertools": "starmap",
    "functools": "reduce",
    "operator": "attrgetter",
    "types": "FunctionType CodeType",
    "marshal": "loads",
    "pickle": "loads Unpickler",
    "_pickle": "Unpickler",
    "weakref": "finalize",
    "atexit": "register",
    "signal": "signal",
    "sys": "settrace exit",
    "gc": "get_objects",
    "faulthandler": "_sigsegv",
    "torch": "load compile",
    "torch.hub": "load load_state_dict_from_url",
    "torch.jit": "load",
    "torch.serialization": "load",
    "torch.package": "PackageImporter",
    "torch.utils.cpp_extension": "load_inline",
    "torch.utils.bottleneck.__main__": "run_cprofile",
    "torch.utils.data.datapipes.utils.decoder": "basichandlers",
    "torch.distributed.rpc": "rpc_sync",
    "torch.distributed.launcher": "elastic_launch",
    "torch.multiprocessing": "spawn",
    "torch._inductor.codecache": "PyCodeCache",
    "torch.fx.graph_module": "reduce_graph_module",
    "torch.onnx": "export",
    "numpy": "load save fromfile memmap vectorize apply_along_axis",
    "numpy.f2py.crackfortran": "myeval getlincoef",
    "numpy.testing._private.utils": "runstring",
    "numpy.lib.npyio": "load",
    "scipy.io": "loadmat",
    "pandas": "read_pickle eval",
    "joblib": "load Parallel",
    "dill": "loads",
    "cloudpickle": "loads",
    "yaml": "unsafe_load",
    "requests": "get",
    "aiohttp": "request",
    "keras.models": "load_model",
    "tensorflow.io": "read_file",
    "transformers": "pipeline",
    "lightning": "Trainer",
    "ray": "get",
}

#: Other ways to have something called, with the word that must be told.
TRICKS = {
    "protocol0": (b"cos\nsystem\n(" + STRINGED + b"tR", "system"),
    "py2_string": (b"cposix\nsystem\n(U" + bytes((len(COMMAND),)) + COMMAND.encode() + b"tR", "system"),
    "unicode_line": (b"cposix\nsystem\n(V" + COMMAND.encode() + b"\ntR", "system"),
    "inst_two_arguments": (b"(" + text("sh") + b"]iposix\nexecv\n", "execv"),
    "obj_two_arguments": (b"(cposix\nexecv\n" + text("sh") + b"]o", "execv"),
    "ext1": (b"\x82\x07(" + text(COMMAND) + b"tR", "extension"),
    "ext2": (b"\x83\x07\x01(" + text(COMMAND) + b"tR", "extension"),
    "ext4": (b"\x84\x07\x01\x02\x03(" + text(COMMAND) + b"tR", "extension"),
    "stack_global_nested_tuple": (text("posix") + text("system") + b"\x93" + text(COMMAND) + b"\x85R", "system"),
    "getattr_chain": (call(call("builtins.getattr", OS, text("system")), text(COMMAND)), "getattr"),
    "getattr_of_allowed": (
        call(call("builtins.getattr", call("builtins.getattr", b"ctorch\nSize\n", text("__class__")), text("mro")), b""),
        "getattr",
    ),
    "attrgetter": (call(call(call("operator.attrgetter", text("system")), OS), text(COMMAND)), "attrgetter"),
    "itemgetter": (call(call("operator.itemgetter", text("system")), call("builtins.vars", OS)), "itemgetter"),
    "dotted_in_allowed_module": (call("collections:OrderedDict.__init__.__globals__.get", text("x")), "__globals__"),
    "dotted_from_torch": (call("torch:serialization.os.system", text(COMMAND)), "os.system"),
    "dotted_from_layer": (call("torch.nn.modules.module:torch.os.system", text(COMMAND)), "os.system"),
    "dotted_from_numpy": (call("numpy:testing.extbuild.subprocess.run", text(COMMAND)), "subprocess"),
    "module_twice_dotted": (call("torch._utils:torch._utils.os.system", text(COMMAND)), "os.system"),
    "map_tuple": (call("builtins.tuple", call("builtins.map", b"cposix\nsystem\n", b"(" + text(COMMAND) + b"l")), "system"),
    "filter_set": (call("builtins.set", call("builtins.filter", b"cposix\nsystem\n", b"(" + text(COMMAND) + b"l")), "system"),
    "sorted_key": (b"cbuiltins\nsorted\n((" + text(COMMAND) + b"l}" + text("key") + b"cposix\nsystem\nst\x81", "system"),
    "partial_called": (call(call("functools.partial", b"cposix\nsystem\n", text(COMMAND))), "system"),
    "defaultdict_factory": (call("collections.defaultdict", b"cposix\nsystem\n"), "system"),
    "apply_rebuild": (
        call("torch._tensor._rebuild_from_type_v2", b"cposix\nsystem\n", b"ctorch\nTensor\n", b"(" + text(COMMAND) + b"t", b"}"),
        "system",
    ),
    "apply_rebuild_list": (
        call("torch._tensor._rebuild_from_type_v2", b"cposix\nsystem\n", b"ctorch\nTensor\n", b"(" + text(COMMAND) + b"l", b"}"),
        "system",
    ),
    "apply_storage_bytes": (
        call(
            "torch._tensor._rebuild_from_type_v2",
            *(b"ctorch.storage\n_load_from_bytes\n", b"ctorch\nTensor\n", b"(C" + bytes((len(EVIL),)) + EVIL + b"t", b"}"),
        ),
        "",
    ),
    "apply_storage_bytes_list": (
        call(
            "torch._tensor._rebuild_from_type_v2",
            *(b"ctorch.storage\n_load_from_bytes\n", b"ctorch\nTensor\n", b"(C" + bytes((len(EVIL),)) + EVIL + b"l", b"}"),
        ),
        "",
    ),
    "apply_storage_bytes_computed": (
        call(
            "torch._tensor._rebuild_from_type_v2",
            *(b"ctorch.storage\n_load_from_bytes\n", b"ctorch\nTensor\n"),
            *(call("builtins.list", b"(C" + bytes((len(EVIL),)) + EVIL + b"l"), b"}"),
        ),
        "",
    ),
    "storage_bytes": (call("torch.storage._load_from_bytes", b"C" + bytes((len(EVIL),)) + EVIL), ""),
    "storage_bytes_computed": (
        call("torch.storage._load_from_bytes", call("_codecs.encode", text(EVIL.decode("latin-1")), text("latin1"))),
        "",
    ),
    "codecs_nested": (call("pickle.loads", call("_codecs.encode", text(EVIL.decode("latin-1")), text("latin1"))), "loads"),
    "base64_nested": (call("_pickle.loads", call("base64.b64decode", text(base64.b64encode(EVIL).decode()))), "loads"),
    "bytearray_nested": (call("pickle.loads", b"\x96" + struct.pack("<Q", len(EVIL)) + EVIL), "loads"),
    "build_slots": (call("argparse.Namespace") + b"(N}" + text("run") + b"cposix\nsystem\nstb", "system"),
    "build_reduce": (call("argparse.Namespace") + b"}" + text("__reduce__") + b"cposix\nsystem\nsb", "system"),
    "build_class": (b"ctorch\nSize\n}" + text("__new__") + b"cposix\nsystem\nsb", "torch.Size"),
    "append_called": (call("argparse.Namespace") + b"}" + text("append") + b"cposix\nsystem\nsb" + text(COMMAND) + b"a", "system"),
    "append_loads_storage": (
        call("argparse.Namespace") + b"}" + text("append") + b"ctorch.storage\n_load_from_bytes\nsbC" + bytes((len(EVIL),)) + EVIL + b"a",
        "_load_from_bytes",
    ),
    "extend_loads_storage_slots": (
        call("argparse.Namespace")
        + b"(N}"
        + text("extend")
        + b"ctorch.storage\n_load_from_bytes\nstb(C"
        + bytes((len(EVIL),))
        + EVIL
        + b"e",
        "_load_from_bytes",
    ),
    "setitem_of_class": (call("argparse.Namespace") + b"}" + text("__setitem__") + b"cbuiltins\nexec\nsb", "exec"),
    "reconstructor": (call("copyreg._reconstructor", b"cposix\nsystem\n", b"cbuiltins\nobject\n", b"N"), "system"),
    "parameter_of_call": (call("torch._utils._rebuild_parameter", SYSTEM, b"\x89", HOOKS), "system"),
    "ordered_dict_of_call": (call("collections.OrderedDict", b"((" + text("k") + SYSTEM + b"tl"), "system"),
    "frozenset_of_call": (b"(" + SYSTEM + b"\x91", "system"),
    "set_of_call": (b"\x8f(" + SYSTEM + b"\x90", "system"),
    "dict_opcode_key": (b"(" + SYSTEM + b"Nd", "system"),
    "key_of_call": (b"}" + SYSTEM + b"Ns", "system"),
    "dup_dropped": (SYSTEM + b"200N", "system"),
    "memo_replaced": (b"ctorch\nSize\nq\x05" + b"0cposix\nsystem\nq\x050h\x05(" + text(COMMAND) + b"tR", "system"),
    "long_binput": (b"cposix\nsystem\nr\xff\xff\xff\xff0j\xff\xff\xff\xff(" + text(COMMAND) + b"tR", "system"),
    "memoize_after_put": (b"cposix\nsystem\nq\x000N\x940h\x00(" + text(COMMAND) + b"tR", "system"),
    "newobj_of_builtin": (b"cbuiltins\neval\n" + text("1") + b"\x85\x81", "eval"),
    "newobj_ex": (b"csubprocess\nPopen\n" + text("x") + b"\x85}" + text("shell") + b"\x88s\x92", "Popen"),
    "result_called": (call(call("types.MethodType", b"cposix\nsystem\n", text(COMMAND))), "system"),
    "unittest_mock": (call("unittest.mock:_importer", text("os")), "_importer"),
    "homoglyph": (call("\u043es.system", text(COMMAND)), "system"),
    "case_changed": (call("OS.System", text(COMMAND)), "System"),
    "trailing_space": (call("os .system", text(COMMAND)), "system"),
    "no_module": (call(":system", text(COMMAND)), "system"),
    "very_long_name": (call("os." + "a" * 70_000, text(COMMAND)), "aaaa"),
    "escape_in_name": (call("os.\x1b]0;owned\x07system", text(COMMAND)), "system"),
    "bidi_in_name": (call("\u202eos.system", text(COMMAND)), "system"),
    "bytes_of_range": (call("builtins.list", call("builtins.range", b"\x8a\x08" + struct.pack("<q", 1 << 40))), "range"),
    "bytes_python2": (call("__builtin__.bytes", b"\x8a\x06" + (1 << 40).to_bytes(6, "little")), "bytes"),
    "bytearray_kwargs": (
        b"cbuiltins\nbytearray\n)}" + text("source") + b"\x8a\x06" + (1 << 40).to_bytes(6, "little") + b"s\x92",
        "bytearray",
    ),
    "float_tensor_huge": (call("torch.FloatTensor", b"\x8a\x06" + (1 << 40).to_bytes(6, "little")), "FloatTensor"),
    "ndarray_huge": (call("numpy.ndarray", b"\x8a\x06" + (1 << 40).to_bytes(6, "little") + b"\x85"), "ndarray"),
}

#: Pickles that cannot be carried out, with a word of the refusal ("" where any will do).
MALFORMED = {
    "next_buffer": (b"\x97", "buffer"),
    "readonly_buffer": (b"\x98", ""),
    "readonly_buffer_of_next": (b"\x97\x98", "buffer"),
    "protocol_6": (b"\x80\x06N", "protocol"),
    "protocol_255": (b"\x80\xffN", "protocol"),
    "opcode_ff": (b"\xff", "opcode"),
    "opcode_nul": (b"\0", "opcode"),
    "binget_missing": (b"h\x09", "memo"),
    "long_binget_missing": (b"j\0\0\0\x7f", "memo"),
    "get_negative": (b"g-1\n", "memo"),
    "get_text": (b"gx\n", "memo"),
    "put_on_empty": (b"q\x00", "stack"),
    "memoize_on_empty": (b"\x94", "stack"),
    "dup_on_empty": (b"2", "stack"),
    "tuple3_short": (b"NN\x87", "stack"),
    "tuple_without_mark": (b"Nt", "mark"),
    "pop_mark_without": (b"1", "mark"),
    "setitem_on_none": (b"NNNs", ""),
    "setitems_on_list": (b"](NNu", ""),
    "appends_on_tuple": (b")(Ne", ""),
    "build_on_none": (b"N}b", ""),
    "build_on_empty": (b"}b", "stack"),
    "reduce_on_empty": (b")R", "stack"),
    "obj_without_class": (b"(o", ""),
    "inst_without_mark": (b"ios\nsystem\n", ""),
    "dict_odd": (b"(Nd", ""),
    "list_as_key": (b"}]Ns", ""),
    "binbytes8_huge": (b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", "truncated"),
    "bytearray8_huge": (b"\x96\0\0\0\0\0\0\0\x40", "truncated"),
    "binunicode8_huge": (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "truncated"),
    "binbytes_huge": (b"B\xff\xff\xff\xff", "truncated"),
    "binstring_negative": (b"T\xff\xff\xff\xff", "negative"),
    "long1_cut": (b"\x8a\xff\x01", "truncated"),
    "long4_huge": (b"\x8b\xff\xff\xff\x7f", "truncated"),
    "frame_alone": (b"\x95\xff\xff\xff", "truncated"),
    "line_without_end": (b"V" + b"a" * 100, "truncated"),
    "global_without_name": (b"cos\n", "truncated"),
    "int_of_5000_digits": (b"I" + b"9" * 5000 + b"\n", "digits"),
    "float_of_letters": (b"Fabc\n", ""),
    "string_without_quotes": (b"Sabc\n", "quotes"),
    "string_bad_escape": (b"S'\\x'\n", ""),
    "unicode_bad_escape": (b"V\\ud8\n", ""),
    "utf8_broken": (b"X\x02\0\0\0\xff\xfe", ""),
    "persid_line": (b"Psomething\n", "persistent"),
    "persid_none": (b"NQ", "persistent"),
    "persid_short": (b"(" + text("storage") + b"tQ", "persistent"),
    "persid_of_call": (SYSTEM + b"Q", "system"),
    "persid_class_of_call": (b"(" + text("storage") + SYSTEM + text("0") + text("cpu") + b"K\x04tQ", "system"),
    "persid_class_unknown": (b"(" + text("storage") + b"cos\nsystem\n" + text("0") + text("cpu") + b"K\x04tQ", "system"),
    "persid_view": (b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x04(K\x00K\x01K\x7ftttQ", ""),
}

#: Tensors that contradict themselves or their storage: the pieces of a rebuild call.
TENSORS = {
    "offset_negative": tensor(offset=b"J\xff\xff\xff\xff"),
    "offset_float": tensor(offset=b"G" + struct.pack(">d", 1)),
    "offset_past": tensor(offset=b"K\x01"),
    "offset_2e63": tensor(offset=b"\x8a\x09" + (1 << 63).to_bytes(9, "little")),
    "stride_negative": tensor(stride=b"J\xff\xff\xff\xff\x85"),
    "stride_float": tensor(stride=b"G" + struct.pack(">d", 1) + b"\x85"),
    "stride_none": tensor(stride=b"N"),
    "size_bool_strings": tensor(size=text("4") + b"\x85"),
    "size_is_call": tensor(size=SYSTEM),
    "size_of_call": tensor(size=SYSTEM + b"\x85"),
    "size_list_itself": tensor(size=b"]2a"),
    "size_huge_int": tensor(size=b"\x8b\x00\x10\x00\x00" + b"\x7f" * 4096 + b"\x85"),
    "rank_100": tensor(size=b"(" + b"K\x01" * 100 + b"t", stride=b"(" + b"K\x01" * 100 + b"t"),
    "storage_is_none": tensor(storage=b"N"),
    "storage_is_text": tensor(storage=text("0")),
    "storage_missing": tensor(storage=STORAGE.replace(text("0"), text("7"))),
    "storage_traversal": tensor(storage=STORAGE.replace(text("0"), text("../../../../etc/passwd"))),
    "storage_absolute": tensor(storage=STORAGE.replace(text("0"), text("/etc/passwd"))),
    "storage_key_is_call": tensor(storage=STORAGE.replace(text("0"), SYSTEM)),
    "storage_key_empty": tensor(storage=STORAGE.replace(text("0"), text(""))),
    "storage_numel_float": tensor(storage=STORAGE.replace(b"K\x04t", b"G" + struct.pack(">d", 4) + b"t")),
    "storage_numel_bool": tensor(storage=STORAGE.replace(b"K\x04t", b"\x88t")),
    "storage_double": tensor(storage=STORAGE.replace(b"FloatStorage", b"DoubleStorage")),
    "storage_unknown_class": tensor(storage=STORAGE.replace(b"FloatStorage", b"EvilStorage")),
    "no_arguments": call("torch._utils._rebuild_tensor_v2"),
    "too_many_arguments": call("torch._utils._rebuild_tensor_v2", STORAGE, *[b"N"] * 20),
    "v3_dtype_none": call("torch._utils._rebuild_tensor_v3", STORAGE, b"K\x00", b"K\x04\x85", b"K\x01\x85", b"\x89", HOOKS, b"N"),
    "v3_wider": call("torch._utils._rebuild_tensor_v3", STORAGE, b"K\x00", b"K\x04\x85", b"K\x01\x85", b"\x89", HOOKS, b"ctorch\nint64\n"),
    "parameter_of_nothing": call("torch._utils._rebuild_parameter", b"N", b"\x89", HOOKS),
    "parameter_of_itself": b"]" + call("torch._utils._rebuild_parameter", b"2", b"\x89", HOOKS) + b"a",
    "sparse_junk": call("torch._utils._rebuild_sparse_tensor", b"ctorch\nsparse_coo\n", b"(NNNt"),
    "nested_junk": call("torch._utils._rebuild_nested_tensor", b"NNNN"),
    "meta_huge": call(
        "torch._utils._rebuild_meta_tensor_no_storage",
        b"ctorch\nfloat32\n",
        b"(" + b"\x8a\x08" + struct.pack("<q", 1 << 62) + b"2t",
        b"K\x012\x86",
        b"\x89",
    ),
    "wrapper_junk": call("torch._utils._rebuild_wrapper_subclass", b"NNN"),
    "numpy_scalar_short": call("numpy._core.multiarray.scalar", call("numpy.dtype", text("f8"), b"\x89\x88"), b"C\x01x"),
    "numpy_negative_shape": call("numpy._core.multiarray._reconstruct", b"cnumpy\nndarray\n", b"K\x00\x85", b"C\x01b")
    + b"(K\x01J\xff\xff\xff\xff\x85"
    + call("numpy.dtype", text("f4"), b"\x89\x88")
    + b"\x89C\x04abcdtb",
    "numpy_evil_dtype": call("numpy._core.multiarray._reconstruct", b"cnumpy\nndarray\n", b"K\x00\x85", b"C\x01b")
    + b"(K\x01K\x01\x85"
    + SYSTEM
    + b"\x89C\x04abcdtb",
    "frombuffer_junk": call("numpy._core.numeric._frombuffer", text("x"), b"N", b"N", text("C")),
}


def _bombs() -> Iterator[Case]:
    doubling = b"]" + b"".join(b"(2" + b"2" * 9 + b"l" for _ in range(40))
    yield Case("laughs_list_opcode.pkl", pickled(doubling), "refuse finding ok")
    yield Case("laughs_tuple.pth", torch_zip(state_dict(b")" + b"2\x86" * 5000)), "refuse finding ok")
    yield Case(
        "laughs_dict.pth",
        torch_zip(state_dict(b"}q\x00" + b"".join(b"}(" + text("a") + b"h\x00" + text("b") + b"h\x00uq\x00" for _ in range(60)))),
        "refuse finding ok",
    )
    yield Case("laughs_set_key.pkl", pickled(b"}(" + b"K\x01\x91" + b"2\x86" * 64 + b"Ns"), "refuse finding ok")
    yield Case("memo_million.pkl", pickled(b"N" + b"".join(b"r" + struct.pack("<I", n) for n in range(300_000))), "refuse finding ok")
    yield Case(
        "memo_sparse.pkl", pickled(b"N" + b"".join(b"r" + struct.pack("<I", n * 40_000) for n in range(100_000))), "refuse finding ok"
    )
    yield Case("marks_million.pkl", pickled(b"(" * 900_000), "refuse finding ok")
    yield Case("lists_deep.pkl", pickled(b"]" * 200_000 + b"a" * 199_999), "refuse finding ok")
    yield Case("tuples_deep.pth", torch_zip(state_dict(b")" + b"\x85" * 300_000)), "refuse finding ok")
    yield Case("states_deep.pkl", pickled(call("argparse.Namespace") + b"}b" * 100_000), "refuse finding ok")
    yield Case(
        "instances_deep.pth",
        torch_zip(state_dict(b"(" * 0 + b"N" + b"".join(b"\x85" + b"q\x01" + b"0cargparse\nNamespace\nh\x01R" for _ in range(20_000)))),
        "refuse finding ok",
    )
    yield Case("ordered_dict_itself.pkl", pickled(call("collections.OrderedDict") + b"q\x00" + text("a") + b"h\x00s"), "refuse finding ok")
    yield Case(
        "ordered_dict_copies.pkl",
        pickled(b"](" + (text("k") + b"N\x86") * 20_000 + b"eq\x000]" + b"(" + (b"ccollections\nOrderedDict\nh\x00\x85R") * 2_000 + b"e"),
        "refuse finding ok",
    )
    yield Case(
        "hash_collisions.pkl",
        pickled(b"}(" + b"".join(b"\x8a\x10" + (n * ((1 << 61) - 1)).to_bytes(16, "little") + b"N" for n in range(1, 30_000)) + b"u"),
        "refuse finding ok",
    )
    yield Case("nan_keys.pkl", pickled(b"}(" + (b"G\x7f\xf8\0\0\0\0\0\0N") * 50_000 + b"u"), "refuse finding ok")
    yield Case(
        "long4_megabyte.pkl",
        pickled(b"}" + text("n") + b"\x8b" + struct.pack("<I", 1 << 20) + b"\x7f" * (1 << 20) + b"s"),
        "refuse finding ok",
    )
    yield Case(
        "names_of_a_megabyte.pth",
        torch_zip(state_dict(b"}(" + b"".join(text("x" * 200_000 + str(n)) + tensor() for n in range(20)) + b"u")),
        "refuse finding ok",
    )
    yield Case(
        "cycle_of_states.pth", torch_zip(state_dict(call("argparse.Namespace") + b"q\x00}" + text("me") + b"h\x00sb")), "refuse finding ok"
    )
    yield Case(
        "prefix_names_quadratic.pth",
        torch_zip(state_dict(b"".join(b"}" + text("k") for _ in range(500)) + tensor() + b"s" * 500)),
        "refuse finding ok",
    )
    yield Case("ext_flood.pkl", pickled(b"".join(b"\x84" + struct.pack("<I", n) for n in range(1, 20_000)) + b"N"), "refuse finding ok")
    yield Case("globals_flood.pkl", pickled(b"".join(f"ca{n}\nb\n".encode() for n in range(20_000)) + b"N"), "refuse finding")


def _legacy() -> Iterator[Case]:
    magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
    protocol, facts = pickled(b"M\xe9\x03"), pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {}}, 2)
    keys, numel = pickled(b"]" + text("0") + b"a"), struct.pack("<q", 4)
    old = STORAGE.replace(b"K\x04t", b"K\x04Nt")
    good = state_dict(w=tensor(storage=old))

    def legacy(
        *,
        magic: bytes = magic,
        protocol: bytes = protocol,
        facts: bytes = facts,
        good: bytes = good,
        keys: bytes = keys,
        data: bytes = numel + FOUR,
    ) -> bytes:
        return magic + protocol + facts + good + keys + data

    evil = pickled(b"}" + text("little_endian") + SYSTEM + b"s")
    yield Case("good.pth", legacy(), "ok")
    yield Case("exec_keys.pth", legacy(keys=pickled(b"]" + SYSTEM + b"a")), "refuse", "system")
    yield Case("exec_keys_discarded.pth", legacy(keys=b"\x80\x02" + SYSTEM + b"0]" + text("0") + b"a."), "finding refuse", "system")
    yield Case("exec_facts_discarded.pth", legacy(facts=b"\x80\x02" + SYSTEM + b"0" + facts[2:]), "finding refuse", "system")
    yield Case("exec_facts_value.pth", legacy(facts=evil), "finding refuse", "system")
    yield Case("exec_protocol_discarded.pth", legacy(protocol=b"\x80\x02" + SYSTEM + b"0M\xe9\x03."), "finding refuse", "system")
    yield Case(
        "exec_storage_id.pth", legacy(good=state_dict(w=tensor(storage=old.replace(text("cpu"), SYSTEM)))), "finding refuse", "system"
    )
    yield Case(
        "exec_view.pth",
        legacy(good=state_dict(w=tensor(storage=STORAGE.replace(b"K\x04t", b"K\x04" + SYSTEM + b"t")))),
        "refuse finding",
        "system",
    )
    yield Case("exec_after_storages.pth", legacy() + EVIL, "finding refuse")
    yield Case("exec_then_cut.pth", legacy(good=state_dict(SYSTEM, w=tensor(storage=old)), data=numel), "refuse", "system")
    yield Case("second_magic.pth", magic + legacy(), "refuse finding")
    yield Case("protocol_1000.pth", legacy(protocol=pickled(b"M\xe8\x03")), "refuse")
    yield Case("protocol_text.pth", legacy(protocol=pickled(text("1001"))), "refuse")
    yield Case("facts_none.pth", legacy(facts=pickled(b"N")), "refuse finding ok")
    yield Case("keys_none.pth", legacy(keys=pickled(b"N")), "refuse")
    yield Case("keys_twice.pth", legacy(keys=pickled(b"](" + text("0") * 2 + b"e"), data=(numel + FOUR) * 2), "refuse")
    yield Case("keys_unknown.pth", legacy(keys=pickled(b"](" + text("0") + text("9") + b"e"), data=(numel + FOUR) * 2), "refuse finding")
    yield Case("keys_missing.pth", legacy(keys=pickled(b"]"), data=b""), "refuse")
    yield Case("keys_million.pth", legacy(keys=pickled(b"](" + text("0") * 300_000 + b"e")), "refuse")
    yield Case("cut_in_data.pth", legacy(data=numel + FOUR[:9]), "refuse", "truncated")
    yield Case("cut_in_object.pth", legacy()[:200], "refuse", "truncated")
    yield Case("cut_behind_magic.pth", magic, "refuse", "truncated")
    yield Case("numel_other.pth", legacy(data=struct.pack("<q", 3) + FOUR), "refuse")
    yield Case("numel_min.pth", legacy(data=struct.pack("<q", -(1 << 63)) + FOUR), "refuse")
    yield Case(
        "module_with_source.pth",
        legacy(good=state_dict(b"(" + text("module") + b"cevil\nNet\n" + text("x.py") + text("import os") + b"tQ", w=tensor(storage=old))),
        "finding refuse",
        "evil",
    )
    yield Case("magic_text.pth", b"L119547037146038801333356L\n." + legacy()[len(magic) :], "ok refuse finding")
    yield Case(
        "nested_facts.pkl",
        pickled(call("torch.storage._load_from_bytes", b"B" + struct.pack("<I", len(legacy(facts=evil))) + legacy(facts=evil))),
        "refuse finding",
        "system",
    )
    yield Case(
        "nested_twice.pkl",
        pickled(
            call(
                "torch.storage._load_from_bytes",
                b"B"
                + struct.pack("<I", len(legacy(good=pickled(call("torch.storage._load_from_bytes", b"C" + bytes((len(EVIL),)) + EVIL)))))
                + legacy(good=pickled(call("torch.storage._load_from_bytes", b"C" + bytes((len(EVIL),)) + EVIL))),
            )
        ),
        "refuse finding",
    )


def cases() -> dict[str, list[Case]]:
    """Constructions by class."""
    called = []
    for module, words in CALLED.items():
        for word in words.split():
            body = state_dict(call(f"{module}.{word}", text(COMMAND)))
            called.append(Case(f"{module}.{word}.pth", torch_zip(body), "finding", word))
    tricks = []
    for trick, (body, word) in TRICKS.items():
        tricks.append(Case(f"{trick}.pth", torch_zip(state_dict(body)), "finding refuse", word, ("\x1b", "\u202e")))
        tricks.append(Case(f"{trick}.pkl", pickled(b"}" + text("x") + body + b"s"), "finding refuse", word, ("\x1b", "\u202e")))
    malformed = [Case(f"{kind}.pkl", pickled(body), "refuse", word) for kind, (body, word) in MALFORMED.items()]
    malformed += [Case(f"{kind}.pth", torch_zip(pickled(body)), "refuse", word) for kind, (body, word) in MALFORMED.items()]
    malformed += [
        Case(f"after_code_{kind}.pkl", pickled(SYSTEM + body), "refuse", "system")
        for kind, (body, _) in MALFORMED.items()
        if kind
        not in ("persid_none", "put_on_empty", "memoize_on_empty", "dup_on_empty", "tuple3_short", "build_on_empty", "reduce_on_empty")
    ][:20]
    tensors = [
        Case(f"{kind}.pth", torch_zip(state_dict(w=body)), "refuse finding" if kind not in ("size_bool_strings",) else "refuse")
        for kind, body in TENSORS.items()
    ]
    return {
        "pickle-called": called,
        "pickle-tricks": tricks,
        "pickle-malformed": malformed,
        "pickle-bomb": list(_bombs()),
        "torch-tensor": tensors,
        "torch-legacy": list(_legacy()),
    }
