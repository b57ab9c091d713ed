"""Preparation of training data: from videos to shards of aligned face clips."""
