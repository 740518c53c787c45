"""What does a test need of the nginx of the compose file, in front of servers on loopback?"""

import re
import socket
import subprocess
from pathlib import Path

from tests.servers.base import Server, free_port, program

ROOT = Path(__file__).parents[2]
_TEMPLATE = ROOT / "docker" / "nginx" / "nginx.conf.template"


class Nginx(Server):
    """nginx with the template of the compose file.

    Args:
        gateway: Port of the gateway.
        tusd: Port of what receives uploads; None means the gateway's own endpoint.
        store: Port of the S3 service; None means that there is none.
        rate: How often a client may create a task, as nginx has it.
        burst: How many tasks more at once.
        folder: As for ``Server``.
    """

    name = "nginx"

    def __init__(
        self,
        *,
        gateway: int,
        tusd: int | None = None,
        store: int | None = None,
        rate: str = "6000r/m",
        burst: int = 200,
        folder: Path | None = None,
    ) -> None:
        super().__init__(folder)
        self.tls_port, self.store_port, self.store_tls_port = free_port(), free_port(), free_port()
        self.variables = {
            "GATEWAY": f"127.0.0.1:{gateway}",
            "UPLOADS": f"127.0.0.1:{tusd or gateway}",
            "STORE": f"127.0.0.1:{store or 9}",
            "RESOLVER": "127.0.0.1",  # nobody is asked: all upstreams are addresses
            "HTTP": f"127.0.0.1:{self.port}",
            "HTTPS": f"127.0.0.1:{self.tls_port}",
            "S3": f"127.0.0.1:{self.store_port}",
            "S3_TLS": f"127.0.0.1:{self.store_tls_port}",
            "TLS_DIR": str(self.folder),
            "CREATE_RATE": rate,
            "CREATE_BURST": str(burst),
            "TEMP": str(self.folder),
        }

    @property
    def url(self) -> str:
        """Where phones go."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        """Where browsers go; ``certificate`` is what they must trust."""
        return f"https://127.0.0.1:{self.tls_port}"

    @property
    def store_url(self) -> str:
        """The public endpoint of the S3 service."""
        return f"http://127.0.0.1:{self.store_port}"

    @property
    def certificate(self) -> Path:
        """The self-signed certificate."""
        return self.folder / "fullchain.pem"

    def command(self) -> list[str]:
        """Return the command line; the template is filled in anew each time."""
        if not self.certificate.exists():
            self._certify()
        config = self.folder / "nginx.conf"
        config.write_text(re.sub(r"\$\{(\w+)\}", lambda found: self.variables[found[1]], _TEMPLATE.read_text()))
        # Test folders are closed to others: under root its workers must be root, too.
        more = ["-g", "user root;"] if Path("/proc/self").stat().st_uid == 0 else []
        return [program("nginx"), "-p", str(self.folder), "-e", "stderr", "-c", str(config), *more]

    def _certify(self) -> None:
        request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        files = ["-keyout", str(self.folder / "privkey.pem"), "-out", str(self.certificate)]
        subprocess.run([program("openssl"), *request, *names, *files], check=True, capture_output=True)

    def answers(self) -> bool:
        """Say whether it listens."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=2):
            return True
