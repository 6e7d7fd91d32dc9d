"""A Flower network on loopback with TLS and node keys: one SuperLink, SuperNodes, started once for many runs.

    with Network(folder, silos=1) as network:
        network.submit(app, {"sizes": "0"})

Everything it starts is its own child, ends with it, and binds to 127.0.0.1.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
ENVIRONMENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
    "PYTHONUNBUFFERED": "1",
}


def make_keys(folder: Path, nodes: int) -> None:
    """`ca.crt`, `server.pem`, `server.key`, and for each node `nodeI` and `nodeI.pub`; good for a week."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    folder.mkdir(parents=True, exist_ok=True)
    now, plain = dt.datetime.now(dt.UTC), serialization.NoEncryption()

    def certificate(subject: str, key: Any, issuer: str) -> Any:
        name, by = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, n)]) for n in (subject, issuer))
        blank = x509.CertificateBuilder().subject_name(name).issuer_name(by).public_key(key.public_key())
        blank = blank.serial_number(x509.random_serial_number())
        return blank.not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=7))

    def usage(signs: bool) -> Any:
        return x509.KeyUsage(not signs, False, False, False, False, signs, signs, False, False)

    ca, server = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    root = certificate("bench CA", ca, "bench CA")
    root = root.add_extension(x509.BasicConstraints(True, 0), True).add_extension(usage(signs=True), True)
    root = root.add_extension(x509.SubjectKeyIdentifier.from_public_key(ca.public_key()), False)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    leaf = certificate("localhost", server, "bench CA")
    leaf = leaf.add_extension(x509.SubjectAlternativeName(names), False)
    leaf = leaf.add_extension(usage(signs=False), True)
    leaf = leaf.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key()), False)
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "ca.crt").write_bytes(root.sign(ca, hashes.SHA384()).public_bytes(pem))
    (folder / "server.pem").write_bytes(leaf.sign(ca, hashes.SHA384()).public_bytes(pem))
    (folder / "server.key").write_bytes(server.private_bytes(pem, pkcs8, plain))
    for i in range(nodes):
        key, kind = ec.generate_private_key(ec.SECP384R1()), serialization.PrivateFormat.OpenSSH
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        (folder / f"node{i}").write_bytes(key.private_bytes(pem, kind, plain))
        (folder / f"node{i}.pub").write_bytes(public)
    for secret in (folder / "server.key", *(folder / f"node{i}" for i in range(nodes))):
        secret.chmod(0o600)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Network:
    """A running network.

    node_config: what each SuperNode is told besides. environment: more variables for all. supernode: the command that
    takes the arguments of `flower-supernode`.
    """

    def __init__(
        self,
        folder: Path,
        silos: int = 1,
        *,
        node_config: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        supernode: Sequence[str] = ("flower-supernode",),
    ) -> None:
        self.folder, self.silos = folder.resolve(), silos
        self.node_config, self.supernode = dict(node_config or {}), tuple(supernode)
        self.pki, self.home = self.folder / "pki", self.folder / "flwr"
        self.environment = {
            **os.environ,
            **ENVIRONMENT,
            **(environment or {}),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "FLWR_HOME": str(self.home),
        }
        self.children: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Network:
        self.home.mkdir(parents=True, exist_ok=True)
        make_keys(self.pki, self.silos)
        try:
            self._start_link()
            for i in range(self.silos):
                self._start_node(i)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def roots(self) -> dict[str, int]:
        """Name -> process id, for a `Watch`."""
        return {name: child.pid for name, child in self.children.items()}

    def submit(self, app: Path, config: Mapping[str, Any]) -> str:
        """Start a run of the app in the folder `app`; its run id. The command itself always exits with 0."""
        settings = " ".join(f"{key}={json.dumps(value)}" for key, value in config.items())
        done = self._flwr("run", str(app), "bench", "--run-config", settings)
        if not done.get("success"):
            raise RuntimeError(f"flwr run: {done}")
        return str(done["run-id"])

    def status(self, run: str) -> str:
        """How the run stands. Costs a Python process of seconds: not for waiting."""
        return str(self._flwr("list", "--run-id", run)["runs"][0]["status"])

    def stop(self) -> None:
        """End all children, nodes first."""
        for name in sorted(self.children, key=lambda name: name == "link"):
            if self.children[name].poll() is None:
                self.children[name].send_signal(signal.SIGINT)
        for child in self.children.values():
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    # ---------------------------------------------------------------------------------------------------- within

    def _spawn(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.children[name] = subprocess.Popen(
                [str(BIN / command[0]), *command[1:]],
                env=self.environment,
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _flwr(self, *words: str) -> dict[str, Any]:
        done = subprocess.run(
            [str(BIN / "flwr"), *words, "--format", "json"],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
        )
        try:
            return dict(json.loads(done.stdout))
        except ValueError:
            raise RuntimeError(f"flwr {words[0]}: {done.stdout}{done.stderr}") from None

    def _tls(self) -> list[str]:
        files = {"--ssl-certfile": "server.pem", "--ssl-keyfile": "server.key", "--ssl-ca-certfile": "ca.crt"}
        return [word for option, file in files.items() for word in (option, str(self.pki / file))]

    def _start_link(self) -> None:
        self.port = free_port()
        certificate = self.pki / "ca.crt"
        (self.home / "config.toml").write_text(
            f'[superlink]\ndefault = "bench"\n\n[superlink.bench]\naddress = "127.0.0.1:{self.port}"\n'
            f'root-certificates = "{certificate}"\n'
        )
        address = ["--host", "127.0.0.1", "--port", str(self.port)]
        self._spawn("link", "flower-superlink", *address, *self._tls(), "--enable-supernode-auth")
        context = ssl.create_default_context(cafile=str(certificate))
        for _ in range(600):
            if self.children["link"].poll() is not None:
                break
            try:
                urllib.request.urlopen(f"https://127.0.0.1:{self.port}/health", timeout=1, context=context)
                return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError((self.folder / "link.log").read_text()[-2000:])

    def _start_node(self, i: int) -> None:
        done = self._flwr("supernode", "register", str(self.pki / f"node{i}.pub"), "bench")
        if not done.get("success"):
            raise RuntimeError(f"flwr supernode register: {done}")
        told = {"partition-id": i, "num-partitions": self.silos, "silo": f"silo-{i}", **self.node_config}
        self._spawn(
            f"node{i}",
            *(*self.supernode, "--superlink", f"127.0.0.1:{self.port}"),
            *("--host", "127.0.0.1", "--port", str(free_port())),
            *("--root-certificates", str(self.pki / "ca.crt"), *self._tls()),
            *("--auth-supernode-private-key", str(self.pki / f"node{i}")),
            *("--node-config", " ".join(f"{key}={json.dumps(value)}" for key, value in told.items())),
        )
