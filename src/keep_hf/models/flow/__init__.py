"""Optical flow between frames, and warping along it."""
