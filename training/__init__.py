"""Training of the networks of KEEP; README.md describes the commands in their order."""
