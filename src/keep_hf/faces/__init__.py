"""Faces in frames: scene cuts, detection, tracks, alignment and paste-back, identity and landmarks."""
