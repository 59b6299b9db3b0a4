"""Ray Jobs: submitting a command line to a cluster, following it, stopping it."""
