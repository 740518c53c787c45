"""What a deployment gives to every run, whatever it is about: folders, addresses, logins."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class Site(BaseModel):
    """What the operator chose for pipelines, which read no settings themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: Path | None = Field(default=None, description="Folder of models, a folder each.")
    sources: Path | None = Field(default=None, description="Folder of further data sources, a JSON file each.")
    catalogue: str = Field(default="", description="STAC catalogue of the sources that name none of their own.")
    gate: str = Field(
        default="", description="The one way to the web, an HTTP proxy; empty if there is none.", repr=False
    )
    earthdata: tuple[str, str] | None = Field(default=None, description="Login at NASA Earthdata.", repr=False)
