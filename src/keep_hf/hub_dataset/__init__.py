"""A dataset of videos on the Hub in, the dataset of restored videos out, shard by shard."""
