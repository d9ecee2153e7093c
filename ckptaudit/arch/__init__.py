"""Name → freshly built model. One module per source; weights are neither allocated nor downloaded."""

from ckptaudit.lazily import loaded_when_used

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ckptaudit.arch.arguments import parse_argument
    from ckptaudit.arch.model import Model
    from ckptaudit.arch.resolve import build_model
    from ckptaudit.arch.spec import load_spec, model_of_checkpoint, save_spec

__all__ = ["Model", "build_model", "load_spec", "model_of_checkpoint", "parse_argument", "save_spec"]

__getattr__ = loaded_when_used(
    __name__,
    {
        "Model": "model",
        "build_model": "resolve",
        "parse_argument": "arguments",
        **dict.fromkeys(("load_spec", "model_of_checkpoint", "save_spec"), "spec"),
    },
)
