"""How a model wants to be fed and read, who says so, and the code that does it."""

from ckptaudit.contract.code import code_for
from ckptaudit.contract.contract import Contract, Statement, make_contract

__all__ = ["Contract", "Statement", "code_for", "make_contract"]
