"""The training loop: outer steps, validation, checkpoints, run control."""
