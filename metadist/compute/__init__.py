"""Gradients of chunks of tasks, the order-free sum over workers, the outer optimizer."""
