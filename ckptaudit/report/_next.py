"""The command that a person would type next."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from ckptaudit.read.checkpoint import CHOSEN_BY_HAND
from ckptaudit.text import printable

if TYPE_CHECKING:
    from ckptaudit.pipeline import Audit


def next_command(audit: Audit) -> str:
    """The command that a person would type next, or ``""`` when nothing is left to do."""
    path = shlex.quote(printable(str(audit.checkpoint.path)))
    retry = [option for finding in audit.findings for option in finding.retry]
    arch = next((value for name, value in retry if name == "--arch"), None)
    by_hand = audit.checkpoint.branch.name if audit.checkpoint.branch_reason == CHOSEN_BY_HAND else None
    branch = next((value for name, value in retry if name == "--branch"), by_hand)
    # Arguments behind the name (`resnet50?num_classes=5`) are among the model's arguments too.
    own = audit.model.arch.partition("?")[0]
    arguments = {key: str(value) for key, value in audit.model.arguments.items()}
    arguments |= dict(value.split("=", 1) for name, value in retry if name == "--arch-arg")
    in_name = {part.partition("=")[0] for part in (arch or "").partition("?")[2].split("&")}
    arguments = {key: value for key, value in arguments.items() if key not in in_name}
    if audit.model.provenance == "file" or audit.checkpoint.recorded is not None:
        return ""  # there is no model to build, or no file to read
    intent = "" if audit.verdict.intent == "eval" else f" --for {audit.verdict.intent}"
    if audit.verdict.fit and not arch:
        changed = audit.verdict.status != "compatible" and (audit.plan.rules or any(step.ops for step in audit.plan.steps))
        command = f"ckptaudit remap {path} --arch {shlex.quote(own)}{_arguments(arguments)}{_branch(by_hand)}{intent} --plan plan.yaml"
        return command if changed else ""
    if not retry:
        if audit.verdict.status == "partial" and not audit.plan.safe:  # it tells which steps are not sure, and why
            return f"ckptaudit remap {path} --arch {shlex.quote(own)}{_arguments(arguments)}{_branch(branch)}{intent}"
        if audit.verdict.status == "partial" and audit.verdict.intent == "eval":
            return f"ckptaudit diff {path} --arch {shlex.quote(own)}{_arguments(arguments)}{_branch(branch)} --for finetune"
        return f"ckptaudit show {path}"
    return f"ckptaudit diff {path} --arch {shlex.quote(arch or own)}{_arguments(arguments)}{_branch(branch)}{intent}"


def apply_command(plan_path: str, checkpoint: str, framework: str) -> str:
    """The command that carries out a plan that was just written; the plan itself says of which branch."""
    output = "fixed.weights.h5 --like fresh.weights.h5" if framework == "keras" else "fixed.safetensors"
    return f"ckptaudit apply {shlex.quote(printable(plan_path))} {shlex.quote(printable(checkpoint))} -o {output}"


def _branch(name: str | None) -> str:
    return "" if name is None else f" --branch {shlex.quote(printable(name))}"


def _arguments(arguments: dict[str, str]) -> str:
    return "".join(f" --arch-arg {shlex.quote(f'{key}={value}')}" for key, value in arguments.items())
