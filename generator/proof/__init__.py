"""Proof that every alert of a file fires when it should, is quiet when it should be, and reaches somebody.

The servers' own tools evaluate what was rendered; what is expected of it is worked out anew, from the model alone.
"""

from generator.proof.proving import prove
from generator.proof.result import Failure, Proof, Row

__all__ = ["Failure", "Proof", "Row", "prove"]
