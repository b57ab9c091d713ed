"""Videos restored by many workers: scenes are the units of work, and the result is that of one process."""
