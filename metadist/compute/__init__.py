"""The arithmetic of a step: gradients of chunks, their order-free sum, the outer optimizer."""
