"""Restoring the faces of a stream of frames: crops through the networks and back, state, and the background."""
