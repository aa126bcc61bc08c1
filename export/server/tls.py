"""gRPC over TLS: an SSLConfig, checked, as server credentials."""

import ssl
import tempfile
from pathlib import Path

import grpc

from export.server.config_files import read_text_proto
from export.server.config_protos import SSLConfig
from tfretrieval.errors import InputError


def server_credentials(path: str | Path) -> grpc.ServerCredentials:
    """Reads an `--ssl_config_file`: PEM texts of key and certificate, and of the authority of clients' certificates.

    Raises:
        InputError: the file cannot be read, key and certificate do not load or do not belong together, or clients shall
            show certificates and no authority is named.
    """
    config = read_text_proto(path, SSLConfig(), "ssl_config_file")
    if not config.server_key or not config.server_cert:
        raise InputError(f"--ssl_config_file={path} lacks server_key or server_cert; PEM texts of both are wanted.")
    if config.client_verify and not config.custom_ca:
        raise InputError(f"--ssl_config_file={path} has client_verify without custom_ca; the clients' CA is wanted.")
    try:
        _check(config)
    except (ssl.SSLError, ValueError, OSError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise InputError(
            f"--ssl_config_file={path}: key, certificate or CA is refused ({reason}); PEM texts that belong together "
            "are wanted."
        ) from error
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )


def _check(config: SSLConfig) -> None:
    """Loads everything once: gRPC would say of a bad one only that the port could not be opened."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = Path(folder, "key"), Path(folder, "certificate")
        key.touch(0o600)
        key.write_text(config.server_key)
        certificate.write_text(config.server_cert)
        context.load_cert_chain(certificate, key, password="")  # which would be asked for at the terminal
    if config.custom_ca:
        context.load_verify_locations(cadata=config.custom_ca)
