"""What networks over sequences and graphs of examples are made of: plain operations on tensors.

Everything can be differentiated twice and vmapped, in any precision.
"""
