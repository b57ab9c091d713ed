"""Times of frames and packets where the file has none, or has a clock that restarts."""
