"""TLS of a client: whom it trusts, and how it shows who it is."""

import dataclasses
import ssl
from pathlib import Path

import grpc

from tfretrieval.errors import InputError


@dataclasses.dataclass(frozen=True)
class Tls:
    """Files of a connection over TLS; `pipelines.extract` has a flag for each, of these names after `--tls_`.

    Attributes:
        ca: PEM file of the authorities that the server's certificate may be by; those that gRPC knows by default.
        certificate: PEM file of this client's own certificate, for servers that ask for one; with `key`.
        key: PEM file of its private key, without a password; with `certificate`.
        server_name: name that the server's certificate must have; the host of the address by default.
    """

    ca: str | Path | None = None
    certificate: str | Path | None = None
    key: str | Path | None = None
    server_name: str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files.

        Raises:
            InputError: a file cannot be read or is no PEM file of its kind, one of `certificate` and `key` is missing,
                or they do not belong together.
        """
        if (self.certificate is None) != (self.key is None):
            given, missing = ("certificate", "key") if self.key is None else ("key", "certificate")
            raise InputError(
                f"--tls_{given}={getattr(self, given)} was given without --tls_{missing}; both are wanted."
            )
        texts = [_read(name, getattr(self, name)) for name in ("ca", "key", "certificate")]
        self._check()
        return grpc.ssl_channel_credentials(*texts)

    def options(self) -> list[tuple[str, str]]:
        """Returns the channel's arguments that go with the credentials."""
        return [("grpc.ssl_target_name_override", self.server_name)] if self.server_name else []

    def _check(self) -> None:
        """Loads everything once: gRPC would say of a bad file only that no server can be reached."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            files = f"--tls_ca={self.ca}"
            if self.ca is not None:
                context.load_verify_locations(cafile=self.ca)
            files = f"--tls_certificate={self.certificate} and --tls_key={self.key}"
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key, password="")  # else it is asked for at the terminal
        except (ssl.SSLError, ValueError, OSError) as error:
            reason = getattr(error, "reason", None) or str(error)
            raise InputError(f"{files}: refused ({reason}); PEM files that belong together are wanted.") from error


def _read(name: str, path: str | Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"--tls_{name}={path} cannot be read ({error.strerror}); a PEM file is wanted.") from error
