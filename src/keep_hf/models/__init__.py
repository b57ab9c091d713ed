"""The networks of KEEP, their recursion over the frames of a clip, and the conversion of published checkpoints."""
