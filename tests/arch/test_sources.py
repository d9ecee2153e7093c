"""Sources of other packages, and names that several of them know."""

from types import SimpleNamespace

import pytest

from ckptaudit.arch import Model, build_model, sources
from ckptaudit.arch.libraries import MissingLibraryError
from ckptaudit.errors import ArchitectureError
from ckptaudit.graph import LayerGraph


def fake(source, *names):
    return SimpleNamespace(
        RANK=1,
        LIBRARY="theirs",
        BUILT_ON=(),
        relatives=lambda name, arguments: (),
        names=lambda: names,
        build=lambda name, arguments: Model(name, source, LayerGraph({}), arguments=arguments),
    )


@pytest.fixture
def installed(monkeypatch):
    """Set which sources there are: built in, and of other packages."""

    def install(built_in, third_party):
        monkeypatch.setattr(sources, "built_in", lambda: built_in)
        monkeypatch.setattr(sources, "third_party", lambda only=None: third_party)

    return install


def test_first_source_that_knows_a_name_builds_it_and_the_others_are_told(installed):
    installed({"one": fake("one", "net"), "two": fake("two", "net", "other")}, {})
    model = build_model("net?a=1")
    assert (model.arch, model.source, model.arguments) == ("net?a=1", "one", {"a": 1})
    assert model.remarks == ("net is known to one, two: one was taken; write two:net for another",)
    assert build_model("two:net").remarks == ()
    assert build_model("other").source == "two"


def test_other_packages_are_asked_only_when_no_built_in_source_answers(installed, monkeypatch):
    installed({"one": fake("one", "net")}, {"theirs": fake("theirs", "net", "special")})
    assert build_model("special").source == "theirs"
    assert build_model("theirs:net").source == "theirs"
    monkeypatch.setattr(sources, "third_party", lambda only=None: pytest.fail("asked"))
    assert build_model("net").source == "one"


def test_missing_library_does_not_hide_another_answer(installed):
    def missing():
        raise MissingLibraryError("torch is not installed")

    installed({"one": SimpleNamespace(RANK=1, LIBRARY="theirs", BUILT_ON=(), names=missing)}, {"theirs": fake("theirs", "special")})
    assert build_model("special").source == "theirs"
    with pytest.raises(ArchitectureError, match=r"^no architecture is named 'specil'; did you mean special\? \(torch is not installed\)$"):
        build_model("specil")


def test_broken_source_of_another_package_is_named(monkeypatch):
    def load():
        raise ValueError("broken")

    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [SimpleNamespace(name="theirs", value="their.module", load=load)])
    with pytest.raises(
        ArchitectureError, match=r"^the architecture source 'theirs' \(their.module\) cannot be imported: ValueError: broken$"
    ):
        sources.third_party()


def test_built_in_sources_are_complete():
    assert "torchvision" in sources.built_in()
    for source in sources.built_in().values():
        assert source.RANK is None or isinstance(source.RANK, int)
        assert callable(source.names)
        assert callable(source.build)
