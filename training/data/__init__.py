"""Training data: clips of aligned faces, pairs of images with known flow, examples for the face detector."""
