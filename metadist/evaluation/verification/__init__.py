"""Are two examples of the same class? How well a learner tells, by its scores of pairs."""
