"""The inner loop and inner optimizers."""
