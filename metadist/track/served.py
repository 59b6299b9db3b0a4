"""What a model in MLflow's registry runs: MLflow keeps a copy of this file in the model's folder.

Models that were saved name the module below, so it is a format: it stays where it is.
"""

import mlflow

from metadist.track.pyfunc_model import FewShotModel

mlflow.models.set_model(FewShotModel())
