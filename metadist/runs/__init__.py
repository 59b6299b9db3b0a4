"""Run directories: attempts, log, checkpoints, their copy in an object store, and readers."""
