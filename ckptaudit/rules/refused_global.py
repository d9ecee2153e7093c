"""The file's pickle names classes or functions that were not imported; loading it ordinarily would run them."""

from __future__ import annotations

from collections.abc import Iterator

from ckptaudit.graph.names import is_under
from ckptaudit.rules.comparison import Comparison
from ckptaudit.rules.finding import Finding, Rule

RULE = Rule("refused-global", "The pickle names code", "note", "file")

#: Modules whose functions run commands, open files or sockets, or build code.
_DANGEROUS_MODULES = frozenset(
    {
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
        "ctypes",
        "importlib",
        "webbrowser",
        "commands",
        "pickle",
        "marshal",
        "types",
        "asyncio",
        "multiprocessing",
        "threading",
        "requests",
        "urllib",
        "httplib",
        "http",
        "tempfile",
        "timeit",
        "cProfile",
        "pdb",
        "bdb",
        "platform",
        "pip",
        "idlelib",
        "signal",
        "builtins",
        "__builtin__",
    }
)
#: Exceptions within them: plain containers and values.
_HARMLESS = frozenset(
    {
        "types.SimpleNamespace",
        "types.MappingProxyType",
        "types.GenericAlias",
        "signal.Signals",
        "platform.uname_result",
        *(
            f"{module}.{name}"
            for module in ("builtins", "__builtin__")
            for name in (
                *("set", "frozenset", "complex", "slice", "range", "xrange", "bytearray", "bytes", "object", "dict", "list", "tuple"),
                *("int", "float", "str", "bool", "long", "unicode", "Ellipsis", "NotImplemented", "Exception", "ValueError"),
            )
        ),
    }
)
#: Parts of libraries that are otherwise harmless, which load or build code.
_DANGEROUS = (
    *("torch.load", "torch.serialization.load", "torch.hub", "torch.jit.load", "torch.package", "torch.fx.graph_module"),
    *("torch.utils.cpp_extension", "torch.utils.collect_env", "torch.distributed.rpc", "torch.testing", "torch.ops"),
    *("numpy.load", "numpy.testing", "numpy.f2py", "numpy.distutils", "numpy.fromfile", "numpy.memmap"),
    "transformers.dynamic_module_utils",
)
_HARMLESS_MODULES = frozenset(
    {
        "argparse",
        "collections",
        "datetime",
        "pathlib",
        "numpy",
        "omegaconf",
        "torch",
        "typing",
        "enum",
        "decimal",
        "fractions",
        "uuid",
        "dataclasses",
        "copyreg",
        "_codecs",
        "yacs",
        "mmengine",
        "mmcv",
        "pytorch_lightning",
        "lightning",
        "transformers",
        "timm",
        "torchvision",
        "addict",
        "easydict",
    }
)


def check(comparison: Comparison) -> Iterator[Finding]:
    """Yield one finding per grade: known dangerous, unknown, and classes that only carry metadata."""
    by_grade: dict[str, list[str]] = {}
    for refused in comparison.checkpoint.refused_globals:
        by_grade.setdefault(_grade(refused.name), []).append(
            f"{refused.name} (byte {refused.position}{' of ' + refused.pickle if refused.pickle else ''})"
        )
    if found := by_grade.get("dangerous"):
        yield RULE.finding(
            f"Loading this file with pickle would run {_listed(found)}. Nothing of it was run here.",
            severity="error",
            fix="do not load it; ask for a safetensors file",
            status="incompatible",
            phrase="the file runs code when it is loaded",
        )
    if found := by_grade.get("unknown"):
        yield RULE.finding(
            f"The pickle needs {_listed(found)}, which was not imported: torch.load(weights_only=True) refuses this file.",
            severity="warning",
            confidence=0.9,
            fix="load it only where these classes are installed and trusted, or save the state dict alone",
        )
    if found := by_grade.get("metadata"):
        yield RULE.finding(
            f"The pickle holds objects of {_listed(found)} beside the tensors, which were read without importing them.",
            fix="torch.load needs weights_only=False, or torch.serialization.add_safe_globals, for this file",
        )


def _grade(name: str) -> str:
    module = name.partition(".")[0]
    if name in _HARMLESS:
        return "metadata"
    if module in _DANGEROUS_MODULES or any(is_under(name, prefix) for prefix in _DANGEROUS):
        return "dangerous"
    return "metadata" if module in _HARMLESS_MODULES else "unknown"


def _listed(names: list[str]) -> str:
    shown = list(dict.fromkeys(names))
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "")
