import grpc
import pytest

from export.client import ServingError, Tls
from export.server import LocalServer
from tfretrieval.errors import InputError


@pytest.fixture
def files(certificates, tmp_path):
    """The certificates as files; gives the path of one by its name."""
    for name, text in certificates.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "nonsense.pem").write_text("nonsense")
    return lambda name: str(tmp_path / name)


@pytest.fixture
def own(certificates):
    return {"server_key": certificates["server.key"], "server_cert": certificates["server.pem"]}


def test_clients_describe_over_tls(client_of, photo_base, photos, expected, own, ssl_config, files):
    with LocalServer("descriptor", photo_base, ssl_config_file=ssl_config(**own)) as server:
        for tls in (Tls(ca=files("ca.pem")), Tls(ca=files("ca.pem"), server_name="localhost")):
            with client_of(server.grpc_address, tls=tls, channels=2) as client:
                assert client.describe(photos) == pytest.approx(expected, abs=1e-6)
                assert client.status() == {1: "AVAILABLE"}


@pytest.mark.parametrize("case", ["unknown authority", "wrong name", "no TLS"])
def test_a_server_that_is_not_trusted_is_not_talked_to(client_of, photo_base, photos, own, ssl_config, files, case):
    tls = {
        "unknown authority": Tls(ca=files("client.pem")),
        "wrong name": Tls(ca=files("ca.pem"), server_name="example.org"),
        "no TLS": None,
    }[case]
    with LocalServer("descriptor", photo_base, ssl_config_file=ssl_config(**own)) as server:
        with client_of(server.grpc_address, tls=tls, timeout=1.0) as client, pytest.raises(ServingError) as caught:
            client.describe(photos)
        assert caught.value.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def test_a_client_shows_its_certificate(client_of, photo_base, photos, own, certificates, ssl_config, files):
    path = ssl_config(**own, custom_ca=certificates["ca.pem"], client_verify=True)
    with LocalServer("descriptor", photo_base, ssl_config_file=path) as server:
        shown = Tls(files("ca.pem"), files("client.pem"), files("client.key"))
        with client_of(server.grpc_address, tls=shown) as client:
            assert client.describe(photos).shape == (5, 4)
        with (
            client_of(server.grpc_address, tls=Tls(files("ca.pem")), timeout=1.0) as client,
            pytest.raises(ServingError),
        ):
            client.describe(photos)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"ca": "missing.pem"}, r"^--tls_ca=.*missing.pem cannot be read \(No such file"),
        ({"ca": "nonsense.pem"}, r"^--tls_ca=.*nonsense.pem: refused"),
        ({"certificate": "client.pem"}, r"^--tls_certificate=.*client.pem was given without --tls_key"),
        ({"key": "client.key"}, r"^--tls_key=.*client.key was given without --tls_certificate"),
        ({"certificate": "client.pem", "key": "server.key"}, "KEY_VALUES_MISMATCH"),
        ({"certificate": "client.key", "key": "client.key"}, "^--tls_certificate=.* and --tls_key=.*: refused"),
    ],
)
def test_files_that_cannot_be_used_are_named(client_of, files, given, told):
    tls = Tls(**{name: files(name_of_file) for name, name_of_file in given.items()})
    with pytest.raises(InputError, match=told) as caught:
        client_of("127.0.0.1:1", tls=tls)
    assert "PRIVATE" not in str(caught.value) and "\n" not in str(caught.value)
