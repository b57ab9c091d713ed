"""The networks of KEEP, their recursion over frames, and the conversion of published checkpoints."""
