"""Degradations for the training of the direct path: of the paper, and of real videos, from none to heavy."""
