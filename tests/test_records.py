"""The project's small dataclasses against the standard library's: what is written with one must mean the same with the other."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from types import MappingProxyType

import pytest

from ckptaudit import records
from ckptaudit.graph import TensorSpec
from ckptaudit.read import Storage


def both(**options):
    """The same class twice."""

    def make(module):
        class Made:
            """Documented."""

            name: str
            shape: tuple = ()
            secret: int = module.field(default=7, compare=False, repr=False)
            more: dict = module.field(default_factory=lambda: MappingProxyType({}))

            @property
            def doubled(self):
                return 2 * self.name

            def __post_init__(self):
                object.__setattr__(self, "name", self.name.lower())

        return module.dataclass(**options)(Made)

    return make(records), make(dataclasses)


@pytest.mark.parametrize(
    "options",
    [{}, {"frozen": True}, {"slots": True}, {"frozen": True, "slots": True}, {"eq": False}, {"frozen": True, "eq": False}],
    ids=str,
)
@pytest.mark.parametrize("arguments", [(), ("A",), ("A", (1,)), ("A", (1,), 8), ("A", (1,), 8, {}), ("A", (), 1, {}, 5)], ids=str)
@pytest.mark.parametrize("made_before", [0, 100])  # the constructor is compiled once there are some objects
def test_constructor_text_comparison_and_hash(options, arguments, made_before):
    def outcome(action):
        try:
            return action()
        except Exception as error:
            return type(error)

    ours, theirs = both(**options)
    for _ in range(made_before):
        outcome(lambda: ours(*arguments))
    made, original = outcome(lambda: ours(*arguments)), outcome(lambda: theirs(*arguments))
    if original is TypeError:
        assert made is TypeError
        return
    assert repr(made) == repr(original)
    named = dict(zip(ours.__match_args__, arguments, strict=False))
    for wrong in ({"another": 1}, {"name": "a"} if arguments else {}):
        assert outcome(lambda wrong=wrong: ours(*arguments, **wrong)) == (TypeError if wrong else made)
    assert not options.get("eq", True) or ours(**named) == made
    for name in ("name", "shape", "secret", "more", "doubled"):
        assert getattr(made, name) == getattr(original, name)
    for equal in (("a", *arguments[1:2]), ("b",)):
        assert (made == ours(*equal)) == (original == theirs(*equal))
    assert (made == original) == (original == made) == False  # noqa: E712
    for action in (hash, lambda made: setattr(made, "shape", (2,)) or made.shape, lambda made: setattr(made, "other", 1), dir):
        left, right = outcome(lambda action=action: action(made)), outcome(lambda action=action: action(original))
        assert type(left) is type(right)
        # Python 3.11 raises a TypeError by mistake where a frozen class with slots is given another attribute.
        assert not isinstance(left, type) or issubclass(left, (right, AttributeError))
    assert hasattr(made, "__dict__") == hasattr(original, "__dict__")
    assert (ours.__doc__, ours.__match_args__) == (theirs.__doc__, theirs.__match_args__)


def test_the_standard_librarys_functions_work_on_them():
    spec = TensorSpec("w", (2, 3), "float32")
    assert dataclasses.replace(spec, name="v") == TensorSpec("v", (2, 3), "float32") == records.replace(spec, name="v")
    assert dataclasses.asdict(spec) == {"name": "w", "shape": (2, 3), "dtype": "float32", "buffer": False}
    assert [field.name for field in dataclasses.fields(Storage) if not field.compare] == ["fetch", "file", "fetch_part"]
    assert pickle.loads(pickle.dumps(spec)) == copy.deepcopy(spec) == spec

    @dataclasses.dataclass(frozen=True, slots=True)
    class Derived(TensorSpec):
        more: int = 1

    made = Derived("w", (2,), "float32", more=3)
    assert records.replace(made, name="v") == dataclasses.replace(made, name="v") == Derived("v", (2,), "float32", False, 3) != made
    assert (made.numel, copy.copy(made)) == (2, made)
    with pytest.raises(TypeError, match="other"):
        records.replace(spec, other=1)


def test_a_scan_imports_neither_these_nor_click(samples):
    program = (
        "import atexit, sys\nfrom ckptaudit.cli import main\n"
        "heavy = {'dataclasses', 'inspect', 'click', 'numpy', 'rich', 'json', 'h5py', 'networkx'}\n"
        "atexit.register(lambda: print(sorted(heavy & set(sys.modules))))\n"
        f"main(['scan', '-q', {str(samples / 'resnet50_imagenet.pth')!r}])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "[]\n", "")


def test_a_class_without_fields():
    class Nothing:
        pass

    ours, theirs = (module.dataclass(frozen=True, slots=True)(Nothing) for module in (records, dataclasses))
    assert (ours(), hash(ours())) == (ours(), hash(ours()))
    assert ours() != theirs()
    assert repr(ours()) == repr(theirs())
