"""The file's pickle names classes or functions that were not imported; loading it ordinarily would run them."""

from __future__ import annotations

import re
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING

from ckptaudit.rules.finding import Finding, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckptaudit.read import RefusedGlobal
    from ckptaudit.rules.comparison import Comparison

RULE = Rule("refused-global", "The pickle names code", "note", "file")

#: Modules whose functions run commands, open files or sockets, or build code: dangerous even when they are only named, for what is
#: named can be called through another object.
_DANGEROUS_MODULES = frozenset(
    [
        "os",
        "posix",
        "nt",
        "subprocess",
        "sys",
        "socket",
        "shutil",
        "pty",
        "runpy",
        "code",
        "codeop",
        "ctypes",
        "importlib",
        "imp",
        "webbrowser",
        "commands",
        "pickle",
        "_pickle",
        "cPickle",
        "marshal",
        "types",
        "asyncio",
        "multiprocessing",
        "_posixsubprocess",
        "threading",
        "requests",
        "urllib",
        "urllib2",
        "httplib",
        "http",
        "tempfile",
        "timeit",
        "cProfile",
        "profile",
        "pdb",
        "bdb",
        "platform",
        "pip",
        "idlelib",
        "signal",
        "builtins",
        "__builtin__",
        "dill",
        "cloudpickle",
    ]
)
#: Modules of Python itself. The running Python does not list those that older ones had, nor its tests.
_STANDARD = sys.stdlib_module_names | frozenset(
    [
        "__builtin__",
        "commands",
        "httplib",
        "urllib2",
        "cPickle",
        "cStringIO",
        "StringIO",
        "copy_reg",
        "exceptions",
        "popen2",
        "new",
        "user",
        "imputil",
        "ihooks",
        "Tkinter",
        "test",
        "aifc",
        "asynchat",
        "asyncore",
        "audioop",
        "cgi",
        "cgitb",
        "chunk",
        "crypt",
        "distutils",
        "imghdr",
        "imp",
        "lib2to3",
        "mailcap",
        "msilib",
        "nis",
        "nntplib",
        "ossaudiodev",
        "pipes",
        "sndhdr",
        "smtpd",
        "spwd",
        "sunau",
        "telnetlib",
        "uu",
        "xdrlib",
        "nt",
        "msvcrt",
        "winreg",
        "_winreg",
        "_winapi",
        "_posixsubprocess",
    ]
)
#: Makes an object that calls what it was given: whatever is named beside it counts as called.
_CALLS_LATER = "functools.partial"
#: Modules that a dotted name must not come by on its way through another one (``torch.serialization.os.system``).
_STEPPING_STONES = frozenset(
    ["os", "posix", "subprocess", "sys", "builtins", "__builtins__", "__globals__", "__dict__", "importlib", "ctypes", "shutil", "socket"]
)
#: Parts of libraries which load or build code.
_DANGEROUS = frozenset(
    (
        *("torch.load", "torch.serialization.load", "torch.hub", "torch.jit.load", "torch.package", "torch.fx.graph_module"),
        *("torch.utils.cpp_extension", "torch.utils.collect_env", "torch.distributed.rpc", "torch.testing", "torch.ops", "torch.classes"),
        *("torch.jit.unsupported_tensor_ops", "torch.utils._config_module", "torch.utils.model_zoo", "torch._inductor", "torch._dynamo"),
        *("numpy.load", "numpy.testing", "numpy.f2py", "numpy.distutils", "numpy.fromfile", "numpy.memmap", "numpy.ctypeslib"),
        *("lightning.fabric.utilities.cloud_io", "lightning_fabric.utilities.cloud_io", "pytorch_lightning.utilities.cloud_io"),
        *("transformers.dynamic_module_utils", "joblib.load", "joblib.numpy_pickle.load", "pandas.read_pickle", "pandas.eval"),
    )
)
_MAX_PARTS = 32  # of a name that is looked at
_MAX_DANGEROUS_PARTS = max(name.count(".") + 1 for name in _DANGEROUS)


def _names(module: str, words: str) -> tuple[str, ...]:
    return tuple(f"{module}.{word}" for word in words.split())


_VALUES = (
    "set frozenset complex slice range xrange object dict list tuple int float str bool long unicode Ellipsis "
    "NotImplemented Exception ValueError"
)
_ATTRIBUTE_DICTS = (
    *("pytorch_lightning.utilities.parsing", "lightning.pytorch.utilities.parsing"),
    *("lightning_fabric.utilities.data", "lightning.fabric.utilities.data"),
)
_NUMPY_SCALARS = (
    "ndarray dtype matrix bool bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 intc uintc longlong ulonglong float16 float32 "
    "float64 longdouble complex64 complex128 str_ bytes_ void datetime64 timedelta64"
)
#: Classes that only carry values, and functions that rebuild them. A name that is not here was not looked at: packages are never
#: listed as a whole, nor are functions that call what they are given (numpy.random._pickle, collections.namedtuple).
_HARMLESS = frozenset(
    (
        *_names("builtins", _VALUES),
        *_names("__builtin__", _VALUES),
        *_names("types", "SimpleNamespace MappingProxyType GenericAlias NoneType"),
        *("argparse.Namespace", "signal.Signals", "platform.uname_result", "_codecs.encode"),
        *_names("collections", "OrderedDict defaultdict Counter deque ChainMap UserDict UserList UserString"),
        *_names("datetime", "datetime date time timedelta timezone"),
        *("decimal.Decimal", "fractions.Fraction", "uuid.UUID", "uuid.SafeUUID"),
        *("copyreg._reconstructor", "copy_reg._reconstructor"),
        *_names("typing", "Any Optional Union List Dict Tuple Set Sequence Mapping Iterable Callable Literal"),
        *_names("numpy", _NUMPY_SCALARS),
        *(name for core in ("numpy.core", "numpy._core") for name in _names(core, "multiarray._reconstruct multiarray.scalar")),
        *("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer"),
        *_names("torch", "device dtype Size Tensor Generator layout memory_format"),
        *_names("torch.nn.parameter", "Parameter Buffer UninitializedParameter UninitializedBuffer"),
        *_names("torch.nn.functional", "relu gelu silu mish softplus leaky_relu elu hardswish log_softmax softmax interpolate"),
        *("torch._C._nn.gelu", "torch._C._nn.silu", "torch.tanh", "torch.sigmoid", "torch.relu"),
        *_names("omegaconf", "DictConfig ListConfig"),
        *("omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig"),
        *_names("omegaconf.base", "ContainerMetadata Metadata Node Container UnionNode"),
        *_names("omegaconf.nodes", "AnyNode StringNode IntegerNode FloatNode BooleanNode EnumNode ValueNode BytesNode PathNode"),
        *("yacs.config.CfgNode", "fvcore.common.config.CfgNode", "detectron2.config.config.CfgNode"),
        *("addict.Dict", "addict.addict.Dict", "easydict.EasyDict"),
        *("mmengine.config.config.ConfigDict", "mmengine.config.ConfigDict", "mmcv.utils.config.ConfigDict"),
        *(f"{module}.AttributeDict" for module in _ATTRIBUTE_DICTS),
        *("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint", "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint"),
        *("pytorch_lightning.callbacks.early_stopping.EarlyStopping", "lightning.pytorch.callbacks.early_stopping.EarlyStopping"),
        *_names("transformers.training_args", "TrainingArguments OptimizerNames ParallelMode"),
        "transformers.training_args_seq2seq.Seq2SeqTrainingArguments",
        *_names("transformers.trainer_utils", "IntervalStrategy SchedulerType HubStrategy SaveStrategy EvaluationStrategy FSDPOption"),
        *("transformers.trainer_pt_utils.AcceleratorConfig", "transformers.configuration_utils.PretrainedConfig"),
        "transformers.generation.configuration_utils.GenerationConfig",
        *("accelerate.state.PartialState", "accelerate.utils.dataclasses.DistributedType"),
    )
)
#: Families of such classes, what their names begin with → an expression for the rest: one module and one class each, so that no name
#: reaches into another module through an import.
_HARMLESS_CLASSES = MappingProxyType(
    {
        "pathlib.": r"(_local\.)?(Pure)?(Posix|Windows)?Path",
        "numpy.dtypes.": r"[A-Z]\w*DType",
        # Not those that call a function that they are given.
        "torch.optim.": r"(?!swa_utils\.)[a-z]\w*\.(?!LambdaLR\b|MultiplicativeLR\b)[A-Z]\w*",
        "torch.nn.modules.": r"[a-z]\w*\.[A-Z]\w*",
        "transformers.models.": r"\w+\.configuration_\w+\.[A-Z]\w*Config",
    }
)


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield what :func:`graded` does of the file."""
    yield from graded(comparison.checkpoint.refused_globals)


def graded(found: Sequence[RefusedGlobal]) -> Iterator[Finding]:
    """Yield one finding per grade: known dangerous, unknown, and classes that only carry metadata."""
    by_grade: dict[str, list[str]] = {}
    called: dict[str, None] = {}
    later = any(refused.called and refused.name == _CALLS_LATER for refused in found)
    for refused in found:
        of_this = grade(refused.name, called=refused.called or later)
        if of_this == "unknown" and refused.called:
            called[refused.name] = None
        call = f"{refused.name}({refused.arguments})" if refused.arguments and of_this != "metadata" else refused.name
        where = f" of {refused.pickle}" if refused.pickle else ""
        by_grade.setdefault(of_this, []).append(f"{call} (byte {refused.position}{where})")
    if names := by_grade.get("dangerous"):
        yield RULE.finding(
            f"Loading this file with pickle would run {_listed(names)}. Nothing of it was run here.",
            severity="error",
            fix="do not load it; ask for a safetensors file",
            status="incompatible",
            phrase="the file runs code when it is loaded",
        )
    if names := by_grade.get("unknown"):
        yield RULE.finding(
            f"The pickle needs {_listed(names)}, which was not imported: torch.load(weights_only=True) refuses this file.",
            severity="warning",
            confidence=0.9,
            fix="load it only where these classes are installed and trusted, or save the state dict alone",
            phrase=f"loading the file calls {_listed([f'`{name}`' for name in called])}" if called else "",
        )
    if names := by_grade.get("metadata"):
        yield RULE.finding(
            f"The pickle holds objects of {_listed(names)} beside the tensors, which were read without importing them.",
            fix="torch.load needs weights_only=False, or torch.serialization.add_safe_globals, for this file",
        )


def grade(name: str, *, called: bool) -> str:
    """``dangerous``, ``unknown`` or ``metadata``: nothing is harmless unless it is listed by its own name."""
    if name in _HARMLESS or any(
        name.startswith(family) and re.fullmatch(rest, name[len(family) :]) for family, rest in _HARMLESS_CLASSES.items()
    ):
        return "metadata"
    module = name.partition(".")[0]
    parts = name.split(".", _MAX_PARTS)[:_MAX_PARTS]
    if module in _DANGEROUS_MODULES or any(".".join(parts[:count]) in _DANGEROUS for count in range(2, _MAX_DANGEROUS_PARTS + 1)):
        return "dangerous"
    if called and not _STEPPING_STONES.isdisjoint(parts[1:]):
        return "dangerous"
    return "dangerous" if called and module in _STANDARD and name != _CALLS_LATER else "unknown"


def _listed(names: list[str]) -> str:
    shown = list(dict.fromkeys(names))
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "")
