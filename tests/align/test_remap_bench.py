"""Pairs of one architecture in two libraries with proven true mappings: nothing that is claimed may be wrong.

The pairs are test data outside the repository (``CKPTAUDIT_REMAP_BENCH``: a folder with ``pairs.json.xz`` and ``score.py``).
"""

from __future__ import annotations

import importlib.util
import json
import lzma
import os
from pathlib import Path

import pytest

import ckptaudit

FOLDER = os.environ.get("CKPTAUDIT_REMAP_BENCH")
pytestmark = pytest.mark.skipif(not FOLDER, reason="CKPTAUDIT_REMAP_BENCH is not set: no proven pairs here")


@pytest.fixture(scope="module")
def score():
    specification = importlib.util.spec_from_file_location("score", Path(FOLDER) / "score.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pairs():
    with lzma.open(Path(FOLDER) / "pairs.json.xz", "rt") as file:
        return json.load(file)


def mapper(source, target):
    for step in ckptaudit.propose(source, target).steps:
        op = "|".join(op.spelled() for op in step.ops) or "copy"
        yield {"dst": step.target, "src": list(step.sources), "op": op, "grade": step.grade}


def test_what_is_claimed_is_right(score, pairs):
    rows = [score.evaluate(mapper, pair) for pair in pairs]
    assert [row["name"] for row in rows if row["claimed_wrong"] or row["raised"]] == []
    assert sum(row["pass"] for row in rows) >= 0.99 * len(rows)
    grades = [(grade, count) for row in rows for grade, count in row["grades"].items()]
    sure = sum(count for grade, count in grades if not grade.startswith("ambiguous"))
    assert sure >= 0.98 * sum(count for _, count in grades)
