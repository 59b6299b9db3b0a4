"""Meta-training itself: gradients of chunks, their exact sum, the outer step, evaluation, state.

Nothing here knows Ray or MLflow. A single process is a group of size one, not another code path.
"""
