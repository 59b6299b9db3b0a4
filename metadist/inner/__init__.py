"""The inner loop: inner optimizers, and what else several learners share."""
