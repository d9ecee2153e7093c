"""A small part of ``benchmarks/keras_round_trips.py``, which has the other models."""

import importlib.util
import sys
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("keras_round_trips", Path(__file__).parents[2] / "benchmarks" / "keras_round_trips.py")
keras_round_trips = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = keras_round_trips  # dataclasses look their module up
_SPEC.loader.exec_module(keras_round_trips)

pytestmark = pytest.mark.filterwarnings("ignore")  # Keras' own


@pytest.mark.parametrize(("name", "form"), [("MobileNetV3Small", "weights.h5"), ("MobileNetV3Small", "h5")])
def test_a_renamed_rebuild_computes_the_same(name, form):
    row = keras_round_trips.round_trip(name, 64, form)
    assert row.good, row
    assert row.status == "compatible"
