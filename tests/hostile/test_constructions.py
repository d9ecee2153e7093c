"""Hostile files made by code: each must be read or refused as its construction says, and nothing else may happen."""

from __future__ import annotations

import pytest

from tests.hostile import (
    constructions_keras,
    constructions_more,
    constructions_pickle,
    constructions_protobuf,
    constructions_safetensors,
    constructions_zip,
)
from tests.hostile.checking import SCAN_JSON, SHOW, check_call, run_all
from tests.hostile.making import FOUR, entry, safetensors

MODULES = (
    constructions_pickle,
    constructions_zip,
    constructions_safetensors,
    constructions_protobuf,
    constructions_keras,
    constructions_more,
)
DIFF = ["diff", "--against", ""]
#: Which verbs are run: all, but where many cases come to the same reader's same lines.
CALLS = {
    "pickle-called": [SCAN_JSON],
    **{kind: [SHOW, SCAN_JSON] for kind in ("pickle-malformed", "not-a-checkpoint", "keras-zip")},
}
ALL = [SHOW, DIFF, SCAN_JSON]
CASES = [(kind, case) for module in MODULES for kind, cases in module.cases().items() for case in cases]


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("constructions")
    other = folder / "other" / "w.safetensors"
    other.parent.mkdir()
    other.write_bytes(safetensors({"w": entry([4], [0, 16])}, FOUR))
    DIFF[-1] = str(other)
    paths = [case.make(folder / kind / str(number)) for number, (kind, case) in enumerate(CASES)]
    results = run_all(folder, paths, [CALLS.get(kind, ALL) for kind, _ in CASES])
    return list(zip(paths, results, strict=True))


def _check(case, path, calls, kinds):
    for call, kind in zip(calls, kinds, strict=True):
        check_call(call, kind, path, set(case.verdict.split()), beside=DIFF[-1])
        said = call["out"] + call["err"]
        assert all(character.isprintable() or character == "\n" for character in said)
        for raw in case.never:
            assert raw not in said
        if call["code"] == 3 or kind == SCAN_JSON:
            assert case.mention.lower() in said.lower(), said


@pytest.mark.parametrize("kind", dict.fromkeys(kind for kind, _ in CASES))
def test_constructions(outcomes, kind):
    wrong = []
    for (of_kind, case), (path, calls) in zip(CASES, outcomes, strict=True):
        if of_kind == kind:
            try:
                _check(case, path, calls, CALLS.get(kind, ALL))
            except AssertionError as error:
                wrong.append(f"{case.file!a}: {str(error)[:500]}")
    assert not wrong, "\n".join(wrong)
