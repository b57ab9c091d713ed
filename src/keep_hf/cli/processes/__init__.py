"""`keep-hf restore` in several processes: the part of one of them in a folder or a dataset."""
