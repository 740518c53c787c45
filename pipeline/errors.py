"""What a pipeline can refuse, and why.

PipelineError
├── InputInvalid        INPUT_INVALID        a file is not what its label says
├── InputTooLarge       INPUT_TOO_LARGE      a file claims or holds more than the limits allow
├── StableAreaEmpty     STABLE_AREA_EMPTY    too little ground inside the stable polygons
├── RegistrationFailed  REGISTRATION_FAILED  the surveys cannot be put on top of each other
├── OutOfMemory         OUT_OF_MEMORY        the run's memory cap was reached
├── TimedOut            TIMEOUT              the run's time cap was reached
├── ModelUnknown        MODEL_UNKNOWN        there is no such model
├── ModelUnusable       MODEL_UNUSABLE       a model's files are not what its manifest says
├── CatalogueUnusable   CATALOGUE_UNUSABLE   the catalogue of scenes cannot be read
├── ScenesMissing       SCENES_MISSING       nothing was seen of the places at those times
├── ScenesUnreadable    SCENES_UNREADABLE    scenes were found, and none of them can be read
├── StorageFull         STORAGE              a file could not be written or read back
└── Defect              INTERNAL             anything else: a fault of ours

The codes are public and frozen; ``docs/errors.md`` lists them.
"""

from typing import Any, ClassVar


class PipelineError(ValueError):
    """The inputs cannot be used; says which, why, and what to do.

    Args:
        message: One sentence: what is wrong, naming the file.
        label: The input's label (``pre``, ``post``, ``shp``, ``shx``), or None if it is about several.
        remedy: One sentence: what the user can do about it.
        details: Further JSON-ready facts, such as ``{"overlap": 0.1}``.
    """

    code: ClassVar[str] = "INTERNAL"

    def __init__(
        self, message: str, *, label: str | None = None, remedy: str, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.label = label
        self.remedy = remedy
        self.details = details or {}

    def document(self) -> dict[str, Any]:
        """Return the error as the JSON object that results carry.

        >>> InputInvalid("pre.las is empty", label="pre", remedy="Upload it again.").document()["code"]
        'INPUT_INVALID'
        """
        return {
            "code": self.code,
            "label": self.label,
            "message": self.message,
            "remedy": self.remedy,
            "details": self.details,
        }


class InputInvalid(PipelineError):
    """A file is not what its label says it is, or is damaged."""

    code = "INPUT_INVALID"


class InputTooLarge(PipelineError):
    """A file claims or holds more than the limits allow."""

    code = "INPUT_TOO_LARGE"


class StableAreaEmpty(PipelineError):
    """Too little ground lies inside the stable polygons to judge the error."""

    code = "STABLE_AREA_EMPTY"


class RegistrationFailed(PipelineError):
    """The two surveys cannot be put on top of each other."""

    code = "REGISTRATION_FAILED"


class ModelUnknown(PipelineError):
    """There is no model of that name."""

    code = "MODEL_UNKNOWN"


class ModelUnusable(PipelineError):
    """A model's files are not what its manifest says."""

    code = "MODEL_UNUSABLE"


class CatalogueUnusable(PipelineError):
    """The catalogue of scenes cannot be read, or is not there."""

    code = "CATALOGUE_UNUSABLE"


class ScenesMissing(PipelineError):
    """Nothing was seen of the places at those times, clouds left out."""

    code = "SCENES_MISSING"


class ScenesUnreadable(PipelineError):
    """Scenes were found, and none of them can be read."""

    code = "SCENES_UNREADABLE"


class OutOfMemory(PipelineError):
    """The run reached its memory cap."""

    code = "OUT_OF_MEMORY"


class TimedOut(PipelineError):
    """The run reached its time cap."""

    code = "TIMEOUT"


class StorageFull(PipelineError):
    """A file could not be written or read back, most often because the disk is full."""

    code = "STORAGE"


class Defect(PipelineError):
    """Something failed that should not have: a fault of the software."""

    code = "INTERNAL"
