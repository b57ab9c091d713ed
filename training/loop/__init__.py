"""The training loop that all stages share: options, the interface of a stage, checkpoints, validation."""
