"""TorchScript: a torch zip whose ``data.pkl`` holds the module itself, as nested objects of classes that the archive defines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ckptaudit.records import replace

if TYPE_CHECKING:
    from ckptaudit.read.checkpoint import Checkpoint
    from ckptaudit.read.source import Source
    from ckptaudit.read.torch_objects import TensorReader

NAME = "torchscript"

_MAX_CODE = 16 << 20
_OWN = "__torch__."
_MANGLED = r"\.___torch_mangle_\d+"
_CLASS = r"(?m)^class (\w+)\(Module\):\n((?:  __\w+__ = .*\n)*)"
#: Operators with a file's name among their arguments.
_REACHING = r"\b(torch\.(?:save|load|from_file)|ops\.image\.(?:read_file|write_file))\("
_DECLARED = r"(?m)^  __(parameters|buffers)__ = (\[.*\])$"
#: A list as torch writes it, of names without escapes.
_LIST = r'\[(?:"\w+", )*\]'


def recognise(source: Source) -> bool:
    """Whether it is a torch zip with constants or code."""
    if not source.is_zip:
        return False
    from ckptaudit.read.torch_zips import is_script, root_of

    return root_of(source) is not None and is_script(source)


def read(source: Source) -> Checkpoint:
    """Read the module's attributes; of its code only the lists of parameters and buffers, as text."""
    declared, reaching = _declarations(source)

    def adapt(value: Any, tensors: TensorReader) -> None:
        _as_modules(value, declared, tensors)

    from ckptaudit.read.checkpoint import Remark
    from ckptaudit.read.torch_zips import read_object

    found = read_object(source, NAME, own_classes=(_OWN, "torch.jit._pickle."), adapt=adapt)
    if not reaching:
        return found
    words = f"its code reads or writes files when it is run: {', '.join(sorted(reaching))}"
    return replace(found, remarks=(*found.remarks, Remark(words, "torchscript-code")))


def _declarations(source: Source) -> tuple[dict[str, dict[str, list[str]]], set[str]]:
    """Names of parameters and buffers, by class, and what of the code reaches the file system.

    A tensor that is neither parameter nor buffer is an attribute, which no state dict holds.
    """
    from ckptaudit.read.torch_zips import root_of

    code = f"{root_of(source) or ''}code/".lower()
    declared: dict[str, dict[str, list[str]]] = {}
    reaching: set[str] = set()
    left = _MAX_CODE
    for name, member in source.zip.members.items():
        if not name.lower().startswith(code) or not name.lower().endswith(".py") or member.size > left:
            continue
        left -= member.size
        text = source.zip.content(member, _MAX_CODE).decode("utf-8", "replace")
        module = name[len(code) : -len(".py")].replace("/", ".")
        reaching.update(re.findall(_REACHING, text))
        for found in re.finditer(_CLASS, text):
            lists = {kind: _strings(listed) for kind, listed in re.findall(_DECLARED, found[2])}
            declared[f"{module}.{found[1]}"] = {"parameters": lists.get("parameters", []), "buffers": lists.get("buffers", [])}
    return declared, reaching


def _strings(listed: str) -> list[str]:
    if re.fullmatch(_LIST, listed):
        return re.findall(r"\w+", listed)
    try:
        import ast

        value = ast.literal_eval(listed)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    return [name for name in value if isinstance(name, str)]


def _as_modules(root: Any, declared: dict[str, dict[str, list[str]]], tensors: TensorReader) -> None:
    """Sort the attributes of every scripted module into parameters, buffers and submodules, as a pickled ``nn.Module`` has them."""
    from ckptaudit.read.pickles import Instance
    from ckptaudit.read.unwrap import attributes, children

    seen, todo = {id(root)}, [root]
    while todo:
        value = todo.pop()
        for _, child in children(value):
            if isinstance(child, (dict, list, tuple, Instance)) and id(child) not in seen:
                seen.add(id(child))
                todo.append(child)
        if not isinstance(value, Instance) or not value.class_name.startswith(_OWN) or not isinstance(value.state, dict):
            continue
        state = attributes(value)
        # Without code (it is optional for a mobile build) every tensor counts.
        lists = declared.get(value.class_name)
        parts: dict[str, dict[Any, Any]] = {"_parameters": {}, "_buffers": {}, "_modules": {}}
        rest: dict[Any, Any] = {}
        for name, item in state.items():
            if tensors.is_tensor(item):
                kind = "_buffers" if lists is None or name in lists["buffers"] else "_parameters" if name in lists["parameters"] else ""
            else:
                kind = "_modules" if isinstance(item, Instance) and item.class_name.startswith(_OWN) else ""
            (parts[kind] if kind else rest)[name] = item
        value.state = {**rest, **parts}
        value.factory.name = re.sub(_MANGLED, "", value.factory.name)
