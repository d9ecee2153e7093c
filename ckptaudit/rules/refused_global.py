"""The file's pickle names classes or functions that were not imported; loading it ordinarily would run them."""

from __future__ import annotations

from collections.abc import Iterator

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
        module = refused.name.split(".")[0]
        grade = "dangerous" if module in _DANGEROUS_MODULES else "metadata" if module in _HARMLESS_MODULES else "unknown"
        by_grade.setdefault(grade, []).append(
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


def _listed(names: list[str]) -> str:
    shown = list(dict.fromkeys(names))
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "")
