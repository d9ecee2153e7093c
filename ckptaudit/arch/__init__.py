"""Name → freshly built model. One module per source; weights are neither allocated nor downloaded."""

from ckptaudit.arch.arguments import parse_argument
from ckptaudit.arch.model import Model
from ckptaudit.arch.resolve import build_model
from ckptaudit.arch.spec import load_spec, model_of_checkpoint, save_spec

__all__ = ["Model", "build_model", "load_spec", "model_of_checkpoint", "parse_argument", "save_spec"]
