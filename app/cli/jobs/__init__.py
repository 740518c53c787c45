"""volcal submit-job: posts a job for an image pipeline to the queue; needs the broker alone, no server."""

import json
from typing import Any

import click
from pydantic import ValidationError

from app.cli.parts import read_settings, stop_with
from pipeline.images import PIPELINES

_JOB = "api.tasks.process_pipeline"


def _read_config(_ctx: click.Context, _param: click.Parameter, text: str | None) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        config = json.loads(text or "{}")
    except ValueError as error:
        raise click.BadParameter(f"it is no JSON: {error}") from None
    if not isinstance(config, dict):
        raise click.BadParameter('it is no JSON object such as {"seed": 1}')
    return config


@click.command("submit-job")
@click.option("--pipeline", default="random", show_default=True, help=f"One of {', '.join(PIPELINES)}.")
@click.option("--image-url", "urls", multiple=True, required=True, help="URL of an image; may be repeated.")
@click.option("--callback-url", help="Where the result is posted.")
@click.option("--broker-url", help="Celery broker; that of the settings by default (CELERY_BROKER_URL).")
@click.option("--config", callback=_read_config, help='Of the pipeline: a JSON object such as {"seed": 1}.')
def submit_job(
    pipeline: str, urls: tuple[str, ...], callback_url: str | None, broker_url: str | None, config: dict[str, Any]
) -> None:
    """Post a job for an image pipeline to the queue, and print its id.

    Any worker that listens to the queue "celery" of that broker takes it. The result is in the workers' result backend
    (CELERY_RESULT_BACKEND) under that id, and goes to the callback URL.
    """
    from app.queue import jobs
    from app.services.images.errors import ImagePipelineUnknown
    from app.services.images.schemas import ProcessRequest
    from app.wiring import broker_url as broker_of

    if pipeline not in PIPELINES:
        unknown = ImagePipelineUnknown(pipeline, PIPELINES)
        stop_with(unknown.code, str(unknown), unknown.remedy)
    images = [{"id": f"img_{number}", "url": url} for number, url in enumerate(urls)]
    try:
        request = ProcessRequest.model_validate({"pipeline": pipeline, "source_images": images, "config": config})
    except ValidationError as error:
        wrong = error.errors()[0]
        stop_with("REQUEST_INVALID", f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}.", "Mend it, and try again.")
    settings = read_settings(VOLCAL_BROKER_URL=broker_url)
    try:
        job_id = jobs.post(broker_of(settings), _JOB, [request.model_dump(mode="json"), callback_url])
    except OSError as error:
        stop_with("BROKER", f"The broker does not take the job: {error}.", "Check --broker-url or CELERY_BROKER_URL.")
    click.echo("Job submitted successfully!")
    click.echo(f"Task ID: {job_id}")
    click.echo(f"Pipeline: {pipeline}")
    click.echo(f"Images: {len(urls)}")
    if callback_url:
        click.echo(f"Callback URL: {callback_url}")
