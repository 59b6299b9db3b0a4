"""The training episodes of a run, from the step it is at; stage by stage where there are stages."""

from __future__ import annotations

from data_pipeline.episodes.loader import Loader
from data_pipeline.episodes.staged import Stage, stage_loader
from metadist.compute.digest import params_sha256
from metadist.compute.setup import Setup, as_arrays
from metadist.training.trainer import Trainer


def open_loader(setup: Setup, trainer: Trainer) -> Loader:
    """The episodes of the steps that follow: to the last one, or to the last of a stage.

    Episodes of a staged source depend on the parameters before their stage, which the trainer
    keeps, and a checkpoint with it.
    """
    section, staged = setup.recipe.outer, setup.data.staged
    steps = {"start": trainer.step_done, "stop": section.steps}
    if staged is None:
        return Loader(
            setup.training,
            setup.data.sequence,
            per_step=section.batch,
            share=trainer.share,
            **steps,
        )
    if Stage.at(staged, trainer.step_done).first == trainer.step_done:
        trainer.begin_stage()
    before = trainer.stage_params
    return stage_loader(
        staged,
        setup.data.sequence,
        params_digest=params_sha256(before),
        params=as_arrays(before),
        per_step=section.batch,
        share=trainer.share,
        **steps,
    )
