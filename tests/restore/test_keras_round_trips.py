"""A small part of ``benchmarks/keras_round_trips.py``, which has the other models."""

import pytest

from benchmarks.keras_round_trips import round_trip

pytestmark = pytest.mark.filterwarnings("ignore")  # Keras' own


@pytest.mark.parametrize(("name", "form"), [("MobileNetV3Small", "weights.h5"), ("MobileNetV3Small", "h5")])
def test_a_renamed_rebuild_computes_the_same(name, form):
    row = round_trip(name, 64, form)
    assert row.good, row
    assert row.status == "compatible"
