"""What does a test need of a real S3 service?"""

from pathlib import Path
from typing import Any

import boto3
import httpx
from botocore.config import Config

from tests.servers.base import Server, free_port, program


class Minio(Server):
    """A MinIO with one folder as its disk.

    ``settings()`` is what a deployment puts into its environment to use it.
    """

    name = "minio"
    access_key = "volcal-tests"
    secret_key = "not-a-secret-at-all"
    region = "us-east-1"

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(folder)
        self._console_port = free_port()

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """Return the owner's keys; nothing is looked up on the network."""
        return {
            "HOME": str(self.folder),
            "MINIO_ROOT_USER": self.access_key,
            "MINIO_ROOT_PASSWORD": self.secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "GOMAXPROCS": "2",
        }

    def command(self) -> list[str]:
        """Return the command line."""
        addresses = ["--address", f"127.0.0.1:{self.port}", "--console-address", f"127.0.0.1:{self._console_port}"]
        return [program("minio", str(Path.home() / "go/bin")), "server", str(self.folder / "disk"), *addresses]

    def answers(self) -> bool:
        """Say whether it is ready to write."""
        try:
            return httpx.get(f"{self.url}/minio/health/ready", timeout=2).is_success
        except httpx.TransportError:
            return False

    def client(self, endpoint: str | None = None) -> Any:
        """Return a client of boto3, for another endpoint if one is given: the caller closes it."""
        return boto3.client(
            "s3",
            endpoint_url=endpoint or self.url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
        )

    def bucket(self, name: str) -> str:
        """Make a bucket; return its name."""
        client = self.client()
        try:
            client.create_bucket(Bucket=name)
        finally:
            client.close()
        return name

    def settings(self, bucket: str = "uploads") -> dict[str, str]:
        """Return the environment of a deployment that keeps its files here."""
        return {
            "VOLCAL_S3_ENDPOINT": self.url,
            "VOLCAL_S3_ACCESS_KEY": self.access_key,
            "VOLCAL_S3_SECRET_KEY": self.secret_key,
            "VOLCAL_S3_BUCKET": bucket,
            "VOLCAL_S3_REGION": self.region,
            "VOLCAL_S3_ADDRESSING_STYLE": "path",
        }
