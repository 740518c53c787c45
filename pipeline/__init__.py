"""The science below the service: pipelines that know files and numbers only."""
