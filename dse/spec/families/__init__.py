"""Families of models: one function per family turns its config.json into a `ModelSpec`.

Defaults of absent fields are those of the family's configuration class in transformers 5.23
(`configuration_<model_type>.py`), or of the code published with the checkpoint where transformers
has no class (aquila, baichuan, deci, internlm, internlm2, kimi_k2, mimo, qwen). A field without a
default is needed.
"""

from dse.spec.families import classic, dense, experts, hybrid, latent
from dse.spec.families.fields import Fields
from dse.spec.families.registry import FAMILIES

__all__ = ["FAMILIES", "Fields", "classic", "dense", "experts", "hybrid", "latent"]
