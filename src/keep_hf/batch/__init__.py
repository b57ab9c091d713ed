"""Many videos, restored by several processes that share a folder."""
