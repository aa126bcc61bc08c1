import os
import subprocess
import sys

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2, platform_config_pb2

from export.server.batching_settings import read_batching_parameters
from export.server.config_protos import (
    POOL,
    BatchingParameters,
    MonitoringConfig,
    SavedModelBundleSourceAdapterConfig,
    SSLConfig,
)
from export.server.model_config import read_model_config
from export.server.settings import ServerSettings
from export.serving import files
from export.serving.deployment import Deployment, parse_models
from export.serving.yaml_text import to_yaml
from tfretrieval.errors import InputError


@pytest.fixture
def models(tmp_path):
    for name in ("first", "second $ one"):
        (tmp_path / "models" / name).mkdir(parents=True)
    return {"descriptor": tmp_path / "models" / "first", "student.v2": tmp_path / "models" / "second $ one"}


@pytest.fixture
def texts(models):
    return files.texts(models, Deployment(enable_batching=True, num_versions=3, cpus=6))


# The server's own files.


def test_the_model_configuration_parses_as_the_servers(texts):
    config = text_format.Parse(texts["models.config"], model_server_config_pb2.ModelServerConfig())
    told = [(m.name, m.base_path, m.model_platform) for m in config.model_config_list.config]
    assert told == [
        ("descriptor", "/models/descriptor", "tensorflow"),
        ("student.v2", "/models/student.v2", "tensorflow"),
    ]
    assert [m.model_version_policy.latest.num_versions for m in config.model_config_list.config] == [3, 3]


def test_batching_and_monitoring_parse(texts):
    batching = text_format.Parse(texts["batching.config"], BatchingParameters())
    assert batching.max_batch_size.value == 32
    assert batching.batch_timeout_micros.value == 2000
    assert batching.max_enqueued_batches.value == 16
    assert batching.num_batch_threads.value == 6
    monitoring = text_format.Parse(texts["monitoring.config"], MonitoringConfig())
    assert monitoring.prometheus_config.enable
    assert monitoring.prometheus_config.path == "/monitoring/prometheus/metrics"


def test_the_platform_configuration_parses_and_unpacks(texts):
    config = platform_config_pb2.PlatformConfigMap()
    text_format.Parse(texts["platform.config"], config, descriptor_pool=POOL)
    adapter = SavedModelBundleSourceAdapterConfig()
    assert config.platform_configs["tensorflow"].source_adapter_config.Unpack(adapter)
    assert adapter.legacy_config.enable_model_warmup
    assert list(adapter.legacy_config.saved_model_tags) == ["serve"]
    assert adapter.legacy_config.batching_parameters.max_batch_size.value == 32


def test_the_declared_messages_have_the_real_ones_names_and_numbers():
    """Against messages that a real server's binary configuration would be read by, taken apart by hand."""
    assert SSLConfig.DESCRIPTOR.full_name == "tensorflow.serving.SSLConfig"
    assert SSLConfig(server_key="k", client_verify=True).SerializeToString() == b"\x0a\x01k\x20\x01"
    assert MonitoringConfig.FromString(b"\x0a\x04\x08\x01\x12\x00").prometheus_config.enable
    batching = BatchingParameters.FromString(b"\x0a\x02\x08\x07\x22\x02\x08\x03\x32\x02\x01\x07\x38\x01")
    assert (batching.max_batch_size.value, batching.num_batch_threads.value) == (7, 3)
    assert (list(batching.allowed_batch_sizes), batching.pad_variable_length_inputs) == ([1, 7], True)


def test_the_local_server_reads_the_same_files(models, tmp_path):
    files.write(tmp_path / "out", models, Deployment())
    assert set(read_model_config(tmp_path / "out" / "models.config")) == set(models)
    assert read_batching_parameters(tmp_path / "out" / "batching.config").max_batch_size == 32
    settings = ServerSettings(model_base_path="x", monitoring_config_file=str(tmp_path / "out" / "monitoring.config"))
    assert settings.metrics_path() == "/monitoring/prometheus/metrics"


# YAML.


def test_yaml_reads_back():
    yaml = pytest.importorskip("yaml")
    words = ["plain", "true", "No", "1", "1.5", "-x", "a: b", "#c", "", " x", "a\nb", "a\n\nb\n", "\n", "{", "~", "y"]
    words += [
        "é 😀",
        "tab\t",
        'quo"te',
        "back\\slash",
        "null",
        "0x10",
        "1e3",
        "2026-01-01",
        "@a",
        "a\u2028b",
        " a\n",
        "a\r\n",
    ]
    value = {
        "words": words,
        "by word": {word: word for word in words},
        "deep": [[1, [2, {"a": [{"b": [True, False]}, {}]}]], [], {"c": {}, "d": [], "e": {"f": -3}}],
    }
    assert yaml.safe_load(to_yaml(value)) == value


def test_compose_mounts_models_and_starts_the_server(texts, models):
    yaml = pytest.importorskip("yaml")
    services = yaml.safe_load(texts["docker-compose.yml"])["services"]
    serving = services["serving"]
    assert serving["image"].startswith("tensorflow/serving:")
    assert "--model_config_file=/config/models.config" in serving["command"]
    assert "--batching_parameters_file=/config/batching.config" in serving["command"]
    assert all(port.startswith("127.0.0.1:") for port in serving["ports"])
    assert {m["target"]: m["source"].replace("$$", "$") for m in serving["volumes"][1:]} == {
        f"/models/{name}": str(path) for name, path in models.items()
    }
    assert "/v1/models/descriptor " in serving["healthcheck"]["test"][-1]
    scrape = yaml.safe_load(texts["prometheus.yml"])["scrape_configs"][0]
    assert scrape["static_configs"] == [{"targets": ["serving:8501"]}]
    assert scrape["metrics_path"] == "/monitoring/prometheus/metrics"


def test_the_compose_health_check_works_against_a_server(texts, models, photo_base):
    yaml = pytest.importorskip("yaml")
    from export.server import LocalServer

    _, *command = yaml.safe_load(texts["docker-compose.yml"])["services"]["serving"]["healthcheck"]["test"]
    with LocalServer("descriptor", photo_base) as server:
        port = server.rest_url.rsplit(":", 1)[1]
        for model, status in (("descriptor", 0), ("another", 1)):
            words = [word.replace("8501", port).replace("/descriptor ", f"/{model} ") for word in command]
            assert subprocess.run(words, timeout=20).returncode == status


def test_kubernetes_manifests_fit_together(texts):
    yaml = pytest.importorskip("yaml")
    found = {each["kind"]: each for each in yaml.safe_load_all(texts["kubernetes.yaml"])}
    assert set(found) == {"ConfigMap", "Deployment", "Service", "PodDisruptionBudget"}
    data = found["ConfigMap"]["data"]
    assert data == {name: texts[name] for name in files.FLAGS}
    spec = found["Deployment"]["spec"]
    pod, labels = spec["template"]["spec"], spec["template"]["metadata"]["labels"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    selectors = [spec["selector"]["matchLabels"], found["Service"]["spec"]["selector"]]
    selectors.append(found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"])
    assert all(selector.items() <= labels.items() for selector in selectors)
    (container,) = pod["containers"]
    ports = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in found["Service"]["spec"]["ports"]} == ports
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        action = container[probe].get("httpGet") or container[probe]["tcpSocket"]
        assert action["port"] in ports
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    configured = {flag.rsplit("/", 1)[1] for flag in container["args"] if "=/config/" in flag}
    assert configured <= set(data)
    sleep = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] == sleep + 30
    annotations = spec["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == "8501"


def test_batching_is_left_out_unless_asked_for(models):
    texts = files.texts(models, Deployment())
    assert "batching_parameters_file" not in texts["docker-compose.yml"] + texts["kubernetes.yaml"]
    assert "batching_parameters" not in texts["platform.config"]


# What is refused, and the script.


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "no --model is given"),
        (["descriptor"], "--model=descriptor; NAME:PATH is wanted"),
        (["../x:{tmp}"], "--model=../x:"),
        ([":{tmp}"], "NAME:PATH is wanted"),
        (["a:"], "NAME:PATH is wanted"),
        (["a:{tmp}/none"], "is no folder"),
        (["a:{tmp}", "a:{tmp}"], "the name a was given before"),
    ],
)
def test_bad_models_are_refused(tmp_path, given, told):
    with pytest.raises(InputError) as caught:
        parse_models([word.format(tmp=tmp_path) for word in given])
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [{"num_versions": 0}, {"cpus": 0}, {"replicas": 0}, {"grace_seconds": -1}, {"image": "a b"}, {"max_batch_size": 0}],
)
def test_bad_sizes_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        Deployment(**options)


@pytest.mark.slow
def test_the_script_writes_a_folder_and_leaves_others_alone(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    command = [sys.executable, "-m", "export.serving_config", f"--model=descriptor:{tmp_path / 'model'}"]
    # The script itself keeps TensorFlow quiet, unless this level is set.
    env = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    taken = subprocess.Popen([*command, f"--output={tmp_path / 'taken'}"], stderr=subprocess.PIPE, text=True, env=env)
    done = subprocess.run(
        [*command, f"--output={tmp_path / 'out'}"], capture_output=True, text=True, check=True, env=env
    )
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {*files.FLAGS, "docker-compose.yml", "kubernetes.yaml", "prometheus.yml"}
    assert "docker compose --project-directory" in done.stdout
    errors = taken.communicate()[1]
    assert taken.returncode == 2
    assert errors.count("\n") == 1
    assert "holds other files" in errors
