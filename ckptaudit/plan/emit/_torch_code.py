"""Python source for a plan in torch alone: what the forms that are functions share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ckptaudit._version import __version__
from ckptaudit.align.ops import (
    Concat,
    Fill,
    Fuse,
    Inflate,
    Interpolate,
    Merge,
    Op,
    Permute,
    Reshape,
    Rows,
    Slice,
    Split,
    Squeeze,
    Sum,
    Unsqueeze,
)
from ckptaudit.errors import PlanError
from ckptaudit.plan.plan import Plan, Step
from ckptaudit.plan.rename_rules import RenameRule
from ckptaudit.text import plural

_REMAP = '''
def {function}:
    """{doc}"""
    restored = {{}}
    for name, tensor in state_dict.items():
        if name not in LEFT:
            for pattern, replacement in RULES:
                renamed, found = re.subn(pattern, replacement, name, count=1)
                if found:
                    name = renamed
                    break
            restored[name] = tensor
{steps}    return restored
'''


def torch_function(plan: Plan, function: str, doc: str) -> str:
    """Source of a function from a state dict to a new one, with all that it needs, imports first.

    Parameters
    ----------
    function:
        Its name and parameters; ``state_dict`` is one of them.
    doc:
        Its docstring.
    """
    ruled = {step.target for step in plan.ruled}
    kept = {step.sources[0] for step in plan.ruled}
    left = [name for name in dict.fromkeys([*plan.dropped, *(n for step in plan.special for n in step.sources)]) if name not in kept]
    special = [step for step in plan.steps if step.target not in ruled]
    lines = "".join(f"    restored[{step.target!r}] = {_expression(step)}\n" for step in special)
    operations = [op for step in special for op in step.ops]
    helpers = "".join(f"\n\n{source.strip()}\n" for kind, source in _HELPERS.items() if any(isinstance(op, kind) for op in operations))
    imports = "import re\n"
    if operations:
        imports += "\nimport torch\n"
    if any(isinstance(op, Interpolate) for op in operations):
        imports += "import torch.nn.functional\n"
    return (
        heading(plan)
        + imports
        + "\n# The first rule that matches a name counts; without one a name stays as it is.\n"
        + f"RULES = {pairs_literal(plan.rules)}\n\n"
        + "# Tensors that are dropped, or used by the single steps below.\n"
        + f"LEFT = frozenset({names_literal(left)})\n"
        + helpers
        + "\n"
        + _REMAP.format(function=function, doc=doc, steps=lines)
    )


def heading(plan: Plan) -> str:
    """A comment that says what the code was made of."""
    sides = [side.name or side.fingerprint[:19] for side in (plan.source, plan.target) if side is not None]
    words = f": {' to '.join(sides)}" if len(sides) == 2 else ""
    text = f"Made by ckptaudit {__version__} from a plan of {plural(len(plan.steps), 'tensor')}{words}."
    return f"# {text.encode('ascii', 'backslashreplace').decode('ascii')}\n".replace("\r", " ")


def pairs_literal(rules: Iterable[RenameRule]) -> str:
    """Rules as a list of pairs, one a line."""
    rows = "".join(f"    ({raw(rule.pattern)}, {raw(rule.replacement)}),\n" for rule in rules)
    return f"[\n{rows}]" if rows else "[]"


def names_literal(names: Sequence[str]) -> str:
    """Names as a list, one a line."""
    rows = "".join(f"    {name!a},\n" for name in names)
    return f"[\n{rows}]" if rows else "[]"


def raw(text: str) -> str:
    """A regular expression as people write it, where that says the same."""
    if "\\" in text and "'" not in text and text.isascii() and text.isprintable() and not text.endswith("\\"):
        return f"r'{text}'"
    return ascii(text)


def _expression(step: Step) -> str:
    """What is done to the sources, as an expression of torch."""
    current = [f"state_dict[{name!r}]" for name in step.sources]
    for op in step.ops:
        current = [_joined(op, current)] if op.joins else [_applied(op, text) for text in current]
    return f"{current[0]}.contiguous()" if step.ops else current[0]


def _applied(op: Op, text: str) -> str:
    if isinstance(op, Permute):
        return f"{text}.permute({', '.join(map(str, op.perm))})"
    if isinstance(op, Reshape):
        return f"{text}.reshape({op.shape})"
    if isinstance(op, Squeeze):
        return f"{text}.squeeze()"
    if isinstance(op, Unsqueeze):
        return text + "".join(f".unsqueeze({dim})" for dim in sorted(op.dims))
    if isinstance(op, Split):
        return f"{text}.tensor_split({op.of}, {op.dim})[{op.index}]"
    if isinstance(op, Slice):
        return f"{text}.narrow({op.dim}, {op.start}, {op.stop - op.start})"
    if isinstance(op, Rows):
        if op.needs_initial:
            raise PlanError("code cannot keep rows of a model's initial values; use Plan.apply(…, initial=…)")
        return f"{text}[{list(op.take)}]"
    if isinstance(op, Fill):
        return f"torch.full_like({text}, {op.value!r})"
    if isinstance(op, Inflate):
        return f"inflate({text}, {op.channels}, {op.how!r})"
    if isinstance(op, Interpolate):
        return f"interpolate({text}, {op.old}, {op.new}, {op.prefix}, {op.suffix}, {op.mode!r}, {op.antialias})"
    raise PlanError(f"there is no code for {op.name}")


def _joined(op: Op, texts: list[str]) -> str:
    if isinstance(op, Sum):
        return f"({' + '.join(texts)})"
    if isinstance(op, Concat):
        return f"torch.cat([{', '.join(texts)}], {op.dim})"
    if isinstance(op, Fuse) and op.part in ("weight", "bias"):
        return f"fuse_{op.part}({', '.join(texts)}, eps={op.eps!r})"
    if isinstance(op, Merge) and op.part in ("weight", "bias"):
        return f"merge_{op.part}({op.branches.split('+')!r}, [{', '.join(texts)}], eps={op.eps!r})"
    raise PlanError(f"there is no code for {op.name}")


_HELPERS: dict[type[Op], str] = {
    Inflate: """
def inflate(kernel, channels, how):
    wide = kernel if kernel.dtype == torch.float64 else kernel.float()
    old = wide.shape[1]
    if how == "repeat":
        values = wide[:, torch.arange(channels) % old] * (old / channels)
    else:
        values = (wide.sum(1, keepdim=True) / channels).repeat_interleave(channels, 1)
    return values.to(kernel.dtype)
""",
    Interpolate: """
def interpolate(table, old, new, prefix, suffix, mode, antialias):
    end = table.shape[-2] - suffix
    wide = table if table.dtype == torch.float64 else table.float()
    grid = wide[..., prefix:end, :].reshape(-1, *old, table.shape[-1]).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, size=new, mode=mode, align_corners=False, antialias=antialias)
    grid = grid.permute(0, 2, 3, 1).reshape(*table.shape[:-2], new[0] * new[1], table.shape[-1])
    return torch.cat([wide[..., :prefix, :], grid, wide[..., end:, :]], -2).to(table.dtype)
""",
    Fuse: """
def fuse_weight(weight, gamma, variance, eps):
    scale = gamma / torch.sqrt(variance + eps)
    return weight * scale.reshape(-1, *[1] * (weight.dim() - 1))


def fuse_bias(beta, gamma, mean, variance, bias=0, eps=0.0):
    return beta + (bias - mean) * (gamma / torch.sqrt(variance + eps))
""",
    Merge: """
def merge_weight(branches, tensors, eps):
    kernel = max((t for t in tensors if t.dim() > 1), key=torch.numel)
    total, rest = torch.zeros_like(kernel), list(tensors)
    for branch in branches:
        part = rest.pop(0) if branch != "norm" else None
        gamma, variance = rest.pop(0), rest.pop(0)
        scale = gamma / torch.sqrt(variance + eps)
        if part is None:
            outputs = torch.arange(len(scale))
            total[(outputs, outputs % kernel.shape[1], *(n // 2 for n in kernel.shape[2:]))] += scale
        else:
            place = tuple(slice((n - k) // 2, (n - k) // 2 + k) for n, k in zip(kernel.shape, part.shape))
            total[place] += part * scale.reshape(-1, *[1] * (part.dim() - 1))
    return total


def merge_bias(branches, tensors, eps):
    total, rest = 0, list(tensors)
    for branch in branches:
        beta, gamma, mean, variance = (rest.pop(0) for _ in range(4))
        bias = rest.pop(0) if branch == "biased" else 0
        total = total + beta + (bias - mean) * (gamma / torch.sqrt(variance + eps))
    return total
""",
}
