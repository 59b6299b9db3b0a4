"""The commands: one module each, which defines the command of its name."""
