import json
import shutil
import time
import urllib.error
import urllib.request

import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import model_management_pb2
from tensorflow_serving.config import model_server_config_pb2

from export.server import LocalServer
from export.server.config_files import MAX_CONFIG_BYTES
from export.server.model_config import parse_model_config, read_model_config
from tfretrieval.errors import InputError


def entry(name, base, more=""):
    return f'config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" {more} }}'


def config_of(*entries):
    return "model_config_list { " + "\n".join(entries) + " }"


@pytest.fixture
def both(own_base, second_version):
    """A base path with two versions."""
    shutil.copytree(second_version, own_base / "2")
    return own_base


@pytest.fixture
def config(tmp_path):
    """Writes a configuration file, whole, and gives its path."""

    def write(text):
        partial = tmp_path / ".models.config"
        partial.write_text(text)
        return str(partial.rename(tmp_path / "models.config"))

    return write


def reload_(endpoint, text, timeout=20):
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(text, request.config)
    return endpoint.models.HandleReloadConfigRequest, request, timeout


def version_of(endpoint, request):
    return endpoint.predictions.Predict(request, timeout=10).model_spec.version.value


# Several models, policies and labels.


def test_models_of_a_file_are_served_side_by_side(config, both, pair_base, make_endpoint, photos, request_of):
    path = config(
        config_of(entry("a", both), entry("b", both, "model_version_policy { all {} }"), entry("p", pair_base))
    )
    with LocalServer(model_config_file=path) as server:
        endpoint = make_endpoint(server)
        assert server.versions == {"a": [2], "b": [1, 2], "p": [1]}
        assert version_of(endpoint, request_of("a", image_bytes=photos[:1])) == 2
        assert version_of(endpoint, request_of("b", image_bytes=photos[:1])) == 2
        assert version_of(endpoint, request_of("b", version=1, image_bytes=photos[:1])) == 1
        assert version_of(endpoint, request_of("p", "named", x=[1.0])) == 1
        assert str(server).startswith("serving a version 2, b version 1, 2, p version 1: gRPC ")


def test_labels_name_versions_over_grpc_and_rest(config, both, make_endpoint, photos, request_of, refusal):
    labels = 'version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 }'
    with LocalServer(
        model_config_file=config(config_of(entry("a", both, "model_version_policy { all {} }" + labels)))
    ) as server:
        endpoint = make_endpoint(server)
        assert version_of(endpoint, request_of("a", label="stable", image_bytes=photos[:1])) == 1
        assert version_of(endpoint, request_of("a", label="canary", image_bytes=photos[:1])) == 2
        found = refusal(endpoint.predictions.Predict, request_of("a", label="old", image_bytes=photos[:1]))
        assert found == ("INVALID_ARGUMENT", "Unrecognized servable version label: old")
        url = f"{server.rest_url}/v1/models/a/labels"
        body = json.dumps({"inputs": []}).encode()
        assert json.loads(urllib.request.urlopen(f"{url}/stable:predict", body).read()) == {"outputs": []}
        assert json.loads(urllib.request.urlopen(f"{url}/canary").read())["model_version_status"][0]["version"] == "2"
        assert json.loads(urllib.request.urlopen(f"{url}/stable/metadata").read())["model_spec"]["version"] == "1"
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{url}/..%2fcanary:predict", body)
        assert caught.value.code == 400


def test_a_label_needs_a_version_that_is_loaded(config, both):
    path = config(config_of(entry("a", both, 'version_labels { key: "stable" value: 1 }')))
    with pytest.raises(InputError, match="assign label to version 1 of model a, which is not currently available"):
        LocalServer(model_config_file=path).start()
    with LocalServer(model_config_file=path, allow_version_labels_for_unavailable_models=True) as server:
        assert server.versions == {"a": [2]}


# Reloading.


def test_a_canary_by_reload_and_back(both, make_endpoint, photos, request_of, refusal):
    def step(versions, **labels):
        policy = " ".join(f"versions: {version}" for version in versions)
        told = " ".join(f'version_labels {{ key: "{k}" value: {v} }}' for k, v in labels.items())
        return config_of(entry("descriptor", both, f"model_version_policy {{ specific {{ {policy} }} }} {told}"))

    with LocalServer("descriptor", both, file_system_poll_wait_seconds=0) as server:
        endpoint = make_endpoint(server)
        call, request, timeout = reload_(endpoint, step([1]))
        call(request, timeout=timeout)
        assert server.versions == {"descriptor": [1]}

        told = refusal(*reload_(endpoint, step([1, 2], stable=1, canary=2)))
        assert told[0] == "FAILED_PRECONDITION"
        assert "assign label to version 2 of model descriptor" in told[1]
        assert server.versions == {"descriptor": [1]}, "a refused configuration changes nothing"

        for config, stable in [
            (step([1, 2]), None),
            (step([1, 2], stable=1, canary=2), 1),
            (step([1, 2], stable=2), 2),
        ]:
            call, request, timeout = reload_(endpoint, config)
            call(request, timeout=timeout)
            if stable:
                assert version_of(endpoint, request_of(label="stable", image_bytes=photos[:1])) == stable
        assert refusal(endpoint.predictions.Predict, request_of(label="canary"))[0] == "INVALID_ARGUMENT"


def test_a_reload_adds_and_drops_models_while_a_request_runs(
    pair_base, both, make_endpoint, request_of, refusal, wait_until
):
    with LocalServer("pair", pair_base) as server:
        endpoint = make_endpoint(server)
        under_way = endpoint.predictions.Predict.future(request_of("pair", "slow", steps=20_000))
        wait_until(lambda: server._models._models["pair"]._leases)
        call, request, timeout = reload_(endpoint, config_of(entry("a", both)))
        call(request, timeout=timeout)
        assert server.versions == {"a": [2]}
        assert refusal(endpoint.predictions.Predict, request_of("pair", "named", x=[1.0]))[0] == "NOT_FOUND"
        assert tf.make_ndarray(under_way.result().outputs["y"]) == 20_000


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("", "INVALID_ARGUMENT", "Only ModelConfigList is currently supported"),
        (config_of(entry("a", "/nowhere")), "FAILED_PRECONDITION", "'a': base_path /nowhere: no such file"),
        (config_of(entry("a", "relative")), "INVALID_ARGUMENT", "to have an absolute path"),
        (config_of(entry("a", "/x"), entry("a", "/x")), "INVALID_ARGUMENT", "Illegal to list model a multiple times"),
    ],
)
def test_refused_reloads_leave_the_models(photo_base, make_endpoint, photos, request_of, refusal, text, code, told):
    with LocalServer("descriptor", photo_base) as server:
        endpoint = make_endpoint(server)
        found = refusal(*reload_(endpoint, text))
        assert found[0] == code
        assert told in found[1]
        assert version_of(endpoint, request_of(image_bytes=photos[:1])) == 1


def test_a_configuration_file_is_followed_and_a_bad_one_ignored(config, both, pair_base, wait_until):
    path = config(config_of(entry("a", both)))
    with LocalServer(model_config_file=path, model_config_file_poll_wait_seconds=0.05) as server:
        for bad in ("", "nonsense {", config_of(entry("a", "/nowhere")), config_of(entry("b", "/nowhere"))):
            config(bad)
            time.sleep(0.2)
            assert server.versions == {"a": [2]}
        config(config_of(entry("a", both, "model_version_policy { specific { versions: 1 } }"), entry("p", pair_base)))
        wait_until(lambda: server.versions == {"a": [1], "p": [1]})


# Hostile files.


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (config_of(entry("a", "/x"), entry("a", "/y")), "Illegal to list model a multiple times in config list"),
        (
            config_of('config { name: "a" model_platform: "tensorflow" }'),
            "absolute path without '..'; got base_path=''",
        ),
        (config_of(entry("a", "models/a")), "got base_path='models/a'"),
        (config_of(entry("a", "/models/../../etc")), "without '..'"),
        (config_of(entry("../../etc", "/x")), r"the model name '../../etc' does not do"),
        (config_of(entry("..", "/x")), r"the model name '..' does not do"),
        (config_of(entry("a/b", "/x")), "the model name 'a/b' does not do"),
        (config_of(entry("", "/x")), "the model name '' does not do"),
        (config_of(entry("a" * 300, "/x")), "does not do"),
        (config_of(entry(r"a\nb", "/x")), "does not do"),
        (config_of('config { name: "a" base_path: "/x" model_platform: "caffe" }'), "model_platform 'caffe'"),
        (config_of('config { name: "a" base_path: "/x" }'), "model_platform ''; 'tensorflow' is wanted"),
        (config_of(entry("a", "/x", "model_version_policy { specific {} }")), "version numbers are wanted"),
        (config_of(entry("a", "/x", 'version_labels { key: "a b" value: 1 }')), "'a b': 1"),
        (config_of(entry("a", "/x", 'version_labels { key: "s" value: -1 }')), "'s': -1"),
        ("custom_model_config {}", "custom_model_config is not supported"),
        ("model_config_list {}", "names no model"),
        ("", "names no model"),
        ("model_config_list { config { nme: 'a' } }", "cannot be read as a ModelServerConfig"),
        ("{" * 100_000, "cannot be read as a ModelServerConfig"),
        ("model_config_list " * 5, "cannot be read as a ModelServerConfig"),
        ("#" * (MAX_CONFIG_BYTES + 1), "is larger than"),
    ],
)
def test_hostile_files_are_refused_in_one_sentence(config, text, told):
    with pytest.raises(InputError) as caught:
        read_model_config(config(text))
    message = str(caught.value)
    assert told in message
    assert message.startswith("--model_config_file=")
    assert "\n" not in message
    assert len(message) < 700


def test_files_that_are_no_text_or_no_files(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00" * 100)
    with pytest.raises(InputError, match="not UTF-8"):
        read_model_config(tmp_path / "binary")
    with pytest.raises(InputError, match="is missing"):
        read_model_config(tmp_path / "none")
    with pytest.raises(InputError, match="is no regular file"):
        read_model_config(tmp_path)
    with pytest.raises(InputError, match="is no regular file"):
        read_model_config("/dev/zero")


def test_the_deprecated_model_type_stands_for_the_platform():
    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(name="a", base_path="/x", model_type=model_server_config_pb2.TENSORFLOW)
    assert parse_model_config(config)["a"].policy.latest == 1


def test_base_paths_without_a_model(tmp_path):
    with pytest.raises(InputError, match=r"--model_base_path=.*nowhere: no such file"):
        LocalServer("m", tmp_path / "nowhere").start()
    with pytest.raises(InputError, match="holds no version"):
        LocalServer("m", tmp_path).start()
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"broken")
    with pytest.raises(InputError, match="version 1 does not load"):
        LocalServer("m", tmp_path).start()
    with pytest.raises(InputError, match="neither --model_base_path nor --model_config_file"):
        LocalServer("m")
    with pytest.raises(InputError, match="the model name 'a/b' does not do"):
        LocalServer("a/b", tmp_path).start()
