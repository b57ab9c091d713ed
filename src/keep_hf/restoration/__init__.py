"""Restoration of faces in a stream of frames."""
