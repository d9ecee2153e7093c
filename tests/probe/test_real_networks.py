"""Other real networks, fed with photographs that are not what they were trained on."""

from __future__ import annotations

import pytest
import torch

from ckptaudit.arch.live import model_of_object
from ckptaudit.probe import Question, probe_network
from ckptaudit.prove.running import network_of
from tests.probe.espnetv2 import ESPNetv2


@pytest.mark.parametrize(("name", "classes", "sure"), [("pascal", 21, True), ("cityscapes", 20, False)])
def test_a_segmentation_network(real, photographs, name, classes, sure):
    """A cat and a cup are not what Cityscapes shows: there no way is called right, and the weights are fine."""
    module = ESPNetv2(classes)
    module.load_state_dict(torch.load(real / f"espnetv2_{name}.pth", map_location="cpu"))
    question = Question(images=photographs, input_size=(3, 160, 160), crops=6, classes=classes, read="argmax")
    outcome = probe_network(network_of(module), model_of_object(module, {}).graph, question)
    hypotheses = {h.cause: h for h in outcome.hypotheses}
    feeding = hypotheses["preprocessing"]
    assert feeding.figures["left"] == ["imagenet", "imagenet, BGR"] if sure else feeding.message.startswith("No way that was tried")
    assert feeding.status == "cannot tell"
    assert hypotheses["batch-norm"].status == "cleared"
    assert outcome.causes == ()
    assert (outcome.output.kind, outcome.output.classes, outcome.output.axis) == ("logits", classes, 1)
