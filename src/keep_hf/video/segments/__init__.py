"""Segments of encoded packets, and their joining with the other streams of the source into the final file."""
