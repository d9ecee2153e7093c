"""Hostile, corrupt and benign files: each must be read or refused as expected, and nothing else may happen.

The corpus is test data outside the repository (``CKPTAUDIT_HOSTILE``: a folder with ``cases.json`` and ``corpus.tar.xz``). The tests run
the real command in one child process that records every file it opens.
"""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import pytest

from tests.hostile.checking import DIFF, SCAN, SCAN_JSON, SHOW, SHOW_JSON, check_call, run_all

CALLS = [SHOW, SHOW_JSON, DIFF, SCAN, SCAN_JSON]
VERDICTS = {"refuse": "refuse", "read-with-finding": "finding", "read-ok": "ok"}
FOLDER = os.environ.get("CKPTAUDIT_HOSTILE")

pytestmark = pytest.mark.skipif(not FOLDER, reason="CKPTAUDIT_HOSTILE is not set: no corpus of hostile files here")
CASES = json.loads((Path(FOLDER) / "cases.json").read_text()) if FOLDER else []


def calls_of(case):
    """What is run: with files that take seconds to read, each verb once."""
    return [SHOW, DIFF, SCAN_JSON] if case.get("slow") else CALLS


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory):
    """What ``show`` and ``scan`` (terminal and JSON) and ``diff`` did with every case, by the case's file; and the folder they lie in."""
    folder = tmp_path_factory.mktemp("corpus")
    with tarfile.open(Path(FOLDER) / "corpus.tar.xz") as archive:
        archive.extractall(folder, filter=lambda member, _: member)
    results = run_all(folder, [folder / case["file"] for case in CASES], list(map(calls_of, CASES)))
    return folder, {case["file"]: result for case, result in zip(CASES, results, strict=True)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: ascii(case["file"]))
def test_case(outcomes, case):
    folder, by_file = outcomes
    path = folder / case["file"]
    if not os.path.lexists(path):
        pytest.skip("a socket cannot be kept in an archive")
    if case.get("skip_if_root") and os.geteuid() == 0:
        pytest.skip("root may read everything")
    accepted = {VERDICTS[verdict] for verdict in (case["expect"], *case.get("also_ok", []))}
    calls = by_file[case["file"]]
    for call, kind in zip(calls, calls_of(case), strict=True):
        check_call(call, kind, path, accepted, slow=bool(case.get("slow")))
        said = call["out"] + call["err"]
        for raw in case.get("must_not_print") or []:
            assert all(raw not in line for line in said.splitlines())
        if canary := case.get("must_not_mention"):
            assert canary not in said
    if (word := case.get("must_mention")) and calls[0]["code"] != 0:
        assert word.lower() in calls[0]["err"].lower()
    elif word and case["expect"] == "read-with-finding":
        assert all(word.lower() in call["out"].lower() for call in calls)
