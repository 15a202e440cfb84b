"""Each part alone, from Python: judge images, score them, train VP-Score on pairs, tune a generator.

Each function but `score` works in a run directory, as `vp-ray run` does: the same call again goes on where it was cut
off, and returns at once when all is there. Settings are those of docs/settings.md, as keyword arguments.
"""

from vp_ray.api.calls import annotate, score, train_reward, tune
from vp_ray.api.results import Judged, TrainedReward, Tuned

__all__ = ["Judged", "TrainedReward", "Tuned", "annotate", "score", "train_reward", "tune"]
