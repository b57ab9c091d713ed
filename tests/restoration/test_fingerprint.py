"""Fingerprints: equal for equal weights, different for different ones."""

from types import SimpleNamespace

import torch
from torch import nn

from keep_hf.restoration.fingerprint import fingerprint


def make_network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Linear(3, 4)


def test_networks_differ_by_their_weights():
    first = fingerprint(make_network(0))
    assert len(first) == 8
    assert int(first, 16) > 0
    assert fingerprint(make_network(0)) == first != fingerprint(make_network(1))
    assert fingerprint(make_network(0).to(torch.bfloat16)) != first
    assert fingerprint(make_network(0), make_network(1)) != fingerprint(make_network(1), make_network(0))


def test_missing_components_are_skipped():
    assert fingerprint(None, make_network(0), None) == fingerprint(make_network(0))
    assert fingerprint(None, None) is None


def test_components_without_weights_differ_by_their_class():
    assert fingerprint(SimpleNamespace()) == fingerprint(SimpleNamespace(a=1)) != fingerprint(object())
