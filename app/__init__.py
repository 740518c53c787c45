"""The application: rules of a task, its use cases, adapters and, in `app.api` alone, its HTTP face."""
