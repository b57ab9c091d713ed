"""Decoding of video streams, damaged and truncated ones included."""
