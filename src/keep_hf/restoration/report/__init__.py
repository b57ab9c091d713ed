"""The report of a restoration as a page to read: what was done to whom, what was left unchanged, and why."""
