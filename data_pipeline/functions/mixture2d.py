"""Sines, lines, parabolas, cubics, quadratic surfaces and ripples with noise: ARML's benchmark.

See :mod:`data_pipeline.functions._mixture` for the ranges and the layout of ``latent``. E[y²] of
the six families is 2551/600, 28, 142/9, 5851/252, 250/3 and, for the ripple,
3 + 1/2 - E[cos(2 a (x² + z²))]/2 = 3.437837190753382 by quadrature, without noise; the floor is
their mean plus 0.09.
"""

from data_pipeline.functions._mixture import mixture

SPEC, draw = mixture(
    2,
    "a sine, line, parabola, cubic, surface or ripple + noise 0.3, x and z in [-5, 5]",
    "Yao et al., ARML, ICLR 2020",
    26.42647815613085,
)
