"""The layers that the networks share."""

import torch

from keep_hf.models.layers import ResidualBlock, swish


def test_swish_overwrites_only_temporaries():
    x = torch.randn(4, requires_grad=True)
    doubled = 2 * x
    swish(doubled).sum().backward()
    sigmoid = doubled.sigmoid()
    torch.testing.assert_close(x.grad, 2 * sigmoid * (1 + doubled * (1 - sigmoid)))
    torch.manual_seed(0)
    block, image = ResidualBlock(8, 8, 4), torch.randn(1, 8, 6, 6)
    expected = block(image)
    with torch.no_grad():
        original = image.clone()
        torch.testing.assert_close(block(image), expected)
    assert torch.equal(image, original), "a block must not change its input"
