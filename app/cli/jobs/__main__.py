"""``python -m app.cli.jobs --pipeline random --image-url …``: the same as ``volcal submit-job``."""

from app.cli.jobs import submit_job

if __name__ == "__main__":
    submit_job()
