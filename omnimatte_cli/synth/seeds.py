"""What scenes there are: their effects, and who may draw which seeds."""

from __future__ import annotations

EFFECTS = ("shadow", "reflection", "both", "mixed")  # that scenes are rendered with

# Raised when the same seed gives another scene: 2 brought horizons and brighter reflections, 3
# things that are thrown and more standing mirrors. Of scenes alone: a run on cutouts that is
# resumed with a newer version of the tool goes on with its cutouts.
SCENES_VERSION = 3

# Scenes of training, of validation and of written datasets never share a seed.
TRAINING_SEEDS = 0
VALIDATION_SEEDS = 1 << 40
SEED_BITS = 32  # of a run's scenes: seed s trains on those from s << SEED_BITS on
DATASET_SEEDS = 1 << 41
