"""How far an embedding tells unseen classes apart by itself: the nearest support image's class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_pipeline.episodes.images import ImageEpisodes


def nearest_neighbour_scores(
    source: ImageEpisodes, vectors: NDArray[np.float32], episodes: int
) -> NDArray[np.float64]:
    """The share of queries whose nearest support image is of their class, float64 [episodes].

    Nearest by Euclidean distance, the first of equally near ones. Episodes are those of the source
    from id 0 on: learners that are tested on the same can be compared with it in pairs.

    Args:
        source: of images that are not turned.
        vectors: float32 [n, D], of each image of the source's part.
    """
    rows = source.rows(range(episodes)).columns
    scores = np.empty(episodes)
    for t in range(episodes):
        support = vectors[rows["support_rows"][t]].astype(np.float64)
        query = vectors[rows["query_rows"][t]].astype(np.float64)
        # |q - s|^2 without |q|^2, which is the same for all.
        distances = (support**2).sum(axis=1) - 2 * query @ support.T
        named = rows["support_y"][t][distances.argmin(axis=1)]
        scores[t] = (named == rows["query_y"][t]).mean()
    return scores
