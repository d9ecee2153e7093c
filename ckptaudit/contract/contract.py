"""How a model wants to be fed and read: statements, each with who makes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ckptaudit._version import __version__
from ckptaudit.align.by_topology.naming import named_by_nodes
from ckptaudit.arch.preprocessing import Preprocessing
from ckptaudit.contract.code import code_for
from ckptaudit.contract.exported import Exported, code_to_run, exported
from ckptaudit.contract.statements import stated_beside, stated_classes
from ckptaudit.graph.heads import main_head
from ckptaudit.records import dataclass, field

if TYPE_CHECKING:
    from ckptaudit.arch import Model
    from ckptaudit.graph import LayerGraph
    from ckptaudit.read import Checkpoint

SCHEMA = "ckptaudit.contract/1"
#: What the last module does, by its class or the name of its function.
_ENDS = {"Softmax": "probabilities", "softmax": "probabilities", "Sigmoid": "sigmoid probabilities", "sigmoid": "sigmoid probabilities"}
_ENDS |= {"LogSoftmax": "log-probabilities", "log_softmax": "log-probabilities", "linear": "logits"}
_MAX_NAMES = 1000


@dataclass(frozen=True, slots=True)
class Statement:
    """One thing that is known.

    Attributes
    ----------
    what:
        ``size``, ``layout``, ``channels``, ``scale``, ``mean``, ``std``, ``classes``, ``output`` …
    value:
        As JSON values.
    source:
        Who says so.
    """

    what: str
    value: Any
    source: str


@dataclass(frozen=True)
class Contract:
    """All that is known of one model.

    Attributes
    ----------
    name:
        The file, or the architecture.
    statements:
        In the order in which one meets them, from the image to the answer; where sources differ, each has its own.
    preprocessing:
        What the code below does: the statement that stands nearest to the weights. None where nobody says anything.
    code:
        Python by library: see :func:`ckptaudit.contract.code.code_for`.
    open:
        What nobody states, one line each.
    """

    name: str
    statements: tuple[Statement, ...]
    preprocessing: Preprocessing | None
    code: Mapping[str, str] = field(default_factory=dict)
    open: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The contract as JSON values, schema ``ckptaudit.contract/1``."""
        return {
            "schema": SCHEMA,
            "tool": {"name": "ckptaudit", "version": __version__},
            "name": self.name,
            "statements": [{"what": s.what, "value": s.value, "source": s.source} for s in self.statements],
            "preprocessing": None if self.preprocessing is None else self.preprocessing.to_json(),
            "code": dict(self.code),
            "open": list(self.open),
        }


def make_contract(
    name: str,
    model: Model | None,
    checkpoint: Checkpoint | None,
    *,
    found: Sequence[Preprocessing] = (),
    output: tuple[str, int, str] | None = None,
) -> Contract:
    """Collect what is known.

    Parameters
    ----------
    name:
        The file, or the architecture, as the user gave it.
    model, checkpoint:
        One of them at least. Without a model the file alone is asked.
    found:
        Ways to feed images that a probe left, the best first; their ``source`` says so.
    output:
        What a probe saw come out: kind, axis of the classes, and who says so.
    """
    beside = stated_beside(checkpoint.path) if checkpoint is not None else None
    sources = [told for told in (beside, model.preprocessing if model is not None else None, *found) if told is not None]
    chosen = _nearest(beside, model.preprocessing if model is not None else None, found)
    graph = exported(checkpoint) if checkpoint is not None else None
    if graph is not None:
        chosen = graph.applied(chosen)
        sources += [told for told in (graph.normalises,) if told is not None]
    statements = [*_of_graph(graph), *(statement for told in sources for statement in _of_input(told))]
    missing = (
        []
        if sources
        else ["how images are scaled: no library and no file beside the weights states it (`ckptaudit probe --images` can tell)"]
    )
    if chosen is not None and chosen.size is None and chosen.resize is None:
        missing.append("the size: any may do; take what it was trained with")
    if output is None and graph is not None and graph.end is not None:
        output = (graph.end, graph.axis, "the graph's last operation")
    statements += _of_output(model, checkpoint, output)
    if not any(statement.what == "output" for statement in statements):
        missing.append(
            "what comes out: the code shows no softmax or sigmoid at its end, which a forward function may still apply; logits are usual"
        )
    code = dict(code_for(chosen)) if chosen is not None else {}
    if graph is not None and checkpoint is not None:
        missing += graph.remarks
        kind = next((statement.value for statement in statements if statement.what == "output"), None)
        guess = "" if code else "# how pixels are scaled is a guess, from 0 to 1: nobody states it\n"
        code = _with_running(code or dict(code_for(_unknown(graph))), graph, checkpoint.path.name, kind, guess)
    return Contract(name, tuple(statements), chosen, code, tuple(missing))


def _unknown(graph: Exported) -> Preprocessing:
    """Where nobody states how pixels are scaled: from 0 to 1, which the code says is a guess."""
    return Preprocessing("nobody", size=graph.size, fit="squash" if graph.size else None, layout=graph.layout or "NCHW")


def _with_running(code: Mapping[str, str], graph: Exported, file: str, kind: str | None, guess: str) -> dict[str, str]:
    """The code for OpenCV and onnxruntime, which run the file itself."""
    return {
        "opencv": guess + code["opencv"] + code_to_run(graph, file, "opencv", kind),
        "onnxruntime": guess + "import onnxruntime\n" + code["numpy"] + code_to_run(graph, file, "onnxruntime", kind),
    }


def _of_graph(graph: Exported | None) -> Iterator[Statement]:
    if graph is not None:
        if graph.size is not None:
            yield Statement("size", list(graph.size), "the graph's input")
        if graph.layout is not None:
            yield Statement("layout", graph.layout, "the graph's input")


def _nearest(beside: Preprocessing | None, library: Preprocessing | None, found: Sequence[Preprocessing]) -> Preprocessing | None:
    """What stands nearest to the weights: a file beside them; what they themselves agree with; what the library says of its own."""
    if beside is not None:
        return beside
    if library is not None and (not found or any(_numbers(way) == _numbers(library) for way in found)):
        return library
    if found and library is not None:
        from ckptaudit.records import replace

        return replace(found[0], size=library.size, resize=library.resize, fit=library.fit, interpolation=library.interpolation)
    return found[0] if found else library


def _numbers(told: Preprocessing) -> tuple[Any, ...]:
    scale = told.scale or 1 / 255
    flat = [round(value / scale, 1) for values in (told.mean or (0.0,) * 3, told.std or (1.0,) * 3) for value in values]
    return (told.channels or "RGB", *flat)


def _of_input(told: Preprocessing) -> Iterator[Statement]:
    for what, value in told.to_json().items():
        if what != "source" and value is not None:
            yield Statement(what, value, told.source)


def _of_output(model: Model | None, checkpoint: Checkpoint | None, output: tuple[str, int, str] | None) -> Iterator[Statement]:
    graphs: list[tuple[LayerGraph, str]] = []
    if checkpoint is not None:
        graphs.append((named_by_nodes(checkpoint.graph), "the file"))
    if model is not None and model.provenance != "file":
        graphs.append((model.graph, "the model"))
    for graph, who in graphs:
        head = main_head(graph)
        if head is not None:
            yield Statement("classes", head.classes, f"the head `{head.path}` of {who}")
    named = stated_classes(checkpoint.metadata) if checkpoint is not None else None
    if named is not None:
        yield Statement(
            "class names" if named[1] else "classes", list(named[1][:_MAX_NAMES]) or named[0], f"`{named[2]}` in the file's metadata"
        )
    if output is not None:
        yield Statement("output", output[0], output[2])
        yield Statement("class axis", output[1], output[2])
        return
    for graph, who in reversed(graphs):
        if (kind := _end(graph)) is not None:
            yield Statement("output", kind[0], f"{kind[1]} of {who}")
            return


def _end(graph: LayerGraph) -> tuple[str, str] | None:
    """What the last module does to the scores, where it is one that is known for it."""
    for path, module in reversed(list(graph.modules.items())):
        told = [module.type_name] if graph.framework != "keras" else [str(module.attributes.get("activation", "")), module.type_name]
        for word in told:
            if word in _ENDS:
                return _ENDS[word], f"the last module, `{path}` ({word}),"
        if graph.by_path.get(path) is not None or graph.framework == "keras":
            return None
    return None
