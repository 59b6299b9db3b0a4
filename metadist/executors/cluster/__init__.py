"""Ray itself: reaching a cluster or starting one, and what its processes stand on."""
