"""Frames with more than 8 bits per colour, and high dynamic range (HDR): 10-bit YUV beside the RGB of the networks."""
