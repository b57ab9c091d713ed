"""Files that are downloaded on first use: published checkpoints, and files on the Hub."""
