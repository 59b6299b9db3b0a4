"""What else a learner is judged by: pairs of examples, and its predictions in sequence."""
