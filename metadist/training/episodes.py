"""The training episodes of a run, from the step it is at; stage by stage where there are stages."""

from __future__ import annotations

from data_pipeline.episodes.loader import Loader
from data_pipeline.episodes.staged import Stage
from metadist.compute.setup import Setup
from metadist.training.trainer import Trainer


def open_loader(setup: Setup, trainer: Trainer) -> Loader:
    """The episodes of the steps that follow: to the last one, or to the last of a stage.

    Episodes of a staged source depend on the parameters before their stage, which the trainer
    keeps, and a checkpoint with it.
    """
    start, stop, staged = trainer.step_done, setup.recipe.outer.steps, setup.data.staged
    if staged is None:
        source = setup.training
    else:
        stage = Stage.at(staged, start)
        if stage.first == start:
            trainer.begin_stage()
        source = setup.stage(start, trainer.stage_params)
        # Nothing of the next stage is read ahead: its parameters are not known yet.
        stop = min(stop, stage.stop)
    return Loader(
        source,
        setup.data.sequence,
        per_step=setup.recipe.outer.batch,
        share=trainer.share,
        start=start,
        stop=stop,
    )
