"""Detected faces of single frames, linked to people through a scene."""
