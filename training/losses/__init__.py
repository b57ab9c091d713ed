"""Losses and what belongs to them: perceptual networks, the discriminator, the learning of the codebook."""
