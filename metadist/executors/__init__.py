"""Where a run is computed: in this process, on Ray Train, in trials of Ray Tune."""
