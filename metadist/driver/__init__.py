"""One run from a request to its result: resolve, claim, track, follow, report."""
