"""Close-ups of faces that were found: how they are cut, and the networks that read them."""
