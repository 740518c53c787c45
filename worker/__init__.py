"""The Celery face: takes jobs, supervises runs."""
