"""Every image pipeline there is, by its slug. They are no tasks: an image comes by URL, and the answer at once."""

from pipeline.images import chance, constant, species
from pipeline.images.registry import Registry

PIPELINES = Registry([chance.PIPELINE, constant.PIPELINE, *species.PIPELINES])
