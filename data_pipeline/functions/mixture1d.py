"""Sines, lines, parabolas and cubics with noise: ARML's families of one variable.

See :mod:`data_pipeline.functions._mixture` for the ranges and the layout of ``latent``. E[y²] of
the four families is 2551/600, 28, 142/9 and 5851/252, without noise; the floor is their mean plus
0.09.
"""

from data_pipeline.functions._mixture import mixture

SPEC, draw = mixture(
    1,
    "a sine, line, parabola or cubic + noise 0.3, x in [-5, 5]",
    "after Yao et al., ARML, ICLR 2020",
    17.901924603174603,
)
