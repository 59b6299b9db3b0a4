"""Compiled kernels: a whole network's loss, gradient and second derivative, without torch.

C++ (``source/``) with a plain C interface, built once (``python -m metadist.kernels.build``),
loaded where a run asks for it (:mod:`~metadist.kernels.library`), and called by functions that
autograd knows (:mod:`~metadist.kernels.functions`).
"""
