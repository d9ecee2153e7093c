"""What is this file? Rank the architectures of the shipped catalogue by how well a set of named shapes agrees with them."""

from ckptaudit.identification.candidates import Candidate, Certainty, Identification
from ckptaudit.identification.matching import identify

__all__ = ["Candidate", "Certainty", "Identification", "identify"]
