"""What the conversion of published checkpoints is made of."""
