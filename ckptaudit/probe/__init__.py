"""Why is the output black? Hypotheses about a restored model, tested on the user's own images and ranked."""

from ckptaudit.probe.hypothesis import Hypothesis
from ckptaudit.probe.probing import Probe, Question, check_question, probe_checkpoint, probe_network, with_masks

__all__ = ["Hypothesis", "Probe", "Question", "check_question", "probe_checkpoint", "probe_network", "with_masks"]
