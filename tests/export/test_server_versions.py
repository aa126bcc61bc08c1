import os
import shutil
import threading
import time

import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.config import file_system_storage_path_source_pb2

from export.server import LocalServer
from export.server.model import Loading, Model
from export.server.model_config import ModelSettings
from export.server.versions import VersionPolicy, complete_versions

PolicyProto = file_system_storage_path_source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy


def states(endpoint):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "descriptor"
    found = endpoint.models.GetModelStatus(request).model_version_status
    return {each.version: each.State.Name(each.state) for each in found}


@pytest.fixture
def asking(request_of, photos):
    """Asks in two threads for as long as the block lasts; gives the (version, vector) of each answer, or the error."""

    class Asking:
        def __init__(self, endpoint):
            self.answers, self.stop = [], threading.Event()
            self.threads = [threading.Thread(target=self.ask, args=(endpoint,)) for _ in range(2)]

        def ask(self, endpoint):
            while not self.stop.is_set():
                try:
                    response = endpoint.predictions.Predict(request_of(image_bytes=photos[:1]))
                except Exception as error:  # noqa: BLE001
                    self.answers.append((error, None))
                    continue
                vector = tf.make_ndarray(response.outputs["descriptors"]).round(4).tobytes()
                self.answers.append((response.model_spec.version.value, vector))

        def __enter__(self):
            for thread in self.threads:
                thread.start()
            return self.answers

        def __exit__(self, *_):
            self.stop.set()
            for thread in self.threads:
                thread.join()

    return Asking


# What is a version, and which are served.


def test_only_complete_numbered_folders_are_versions(own_base):
    (own_base / "12").mkdir()
    shutil.copytree(own_base / "1", own_base / "3.tmp")
    for name in ("4", "5", "6", "10"):
        shutil.copytree(own_base / "1", own_base / name)
    (own_base / "4" / "variables" / "variables.index").unlink()
    (own_base / "5" / "variables" / "variables.data-00000-of-00001").unlink()
    shard = own_base / "6" / "variables" / "variables.data-00000-of-00001"
    shard.rename(shard.with_name("variables.data-00000-of-00002"))
    assert sorted(complete_versions(own_base)) == [1, 10]


@pytest.mark.parametrize(
    ("proto", "chosen"),
    [
        (PolicyProto(), {7}),
        (PolicyProto(latest=PolicyProto.Latest()), {7}),
        (PolicyProto(latest=PolicyProto.Latest(num_versions=2)), {5, 7}),
        (PolicyProto(latest=PolicyProto.Latest(num_versions=9)), {2, 5, 7}),
        (PolicyProto(all=PolicyProto.All()), {2, 5, 7}),
        (PolicyProto(specific=PolicyProto.Specific(versions=[2, 6])), {2}),
    ],
)
def test_policies_choose_versions(proto, chosen):
    assert VersionPolicy.of(proto).choose([5, 7, 2]) == chosen
    assert VersionPolicy.of(proto).choose([]) == set()


@pytest.mark.parametrize("versions", [[], [1, -1]])
def test_specific_versions_are_versions(versions):
    with pytest.raises(ValueError, match="version numbers are wanted"):
        VersionPolicy.of(PolicyProto(specific=PolicyProto.Specific(versions=versions)))


def test_a_version_is_loaded_once_its_files_have_settled(own_base, second_version):
    model = Model(ModelSettings("m", own_base), Loading())
    model.refresh()
    shutil.copytree(second_version, own_base / "2")
    model.refresh(settle=True)
    assert model.versions == [1]
    os.utime(own_base / "2" / "saved_model.pb", (1, 1))
    model.refresh(settle=True)
    assert model.versions == [1]
    model.refresh(settle=True)
    assert model.versions == [2]
    model.close(5)
    model.refresh()
    assert model.versions == []


# Swapping while requests run.


def test_a_new_version_replaces_the_old_one_while_requests_run(
    own_base, second_version, photos, make_endpoint, asking, wait_until, request_of, refusal
):
    with LocalServer("descriptor", own_base, file_system_poll_wait_seconds=0.05) as server:
        endpoint = make_endpoint(server)
        with asking(endpoint) as answers:
            (own_base / "2").mkdir()  # half-copied: not served
            shutil.copytree(second_version / "variables", own_base / "2" / "variables")
            time.sleep(0.3)
            assert server.version == 1
            assert states(endpoint) == {1: "AVAILABLE"}
            shutil.copy(second_version / "saved_model.pb", own_base / "2")
            wait_until(lambda: server.version == 2)
            time.sleep(0.2)
        assert {version for version, _ in answers} == {1, 2}
        assert len(set(answers)) == 2, "each version has one answer"
        wait_until(lambda: states(endpoint) == {1: "END", 2: "AVAILABLE"})
        found = refusal(endpoint.predictions.Predict, request_of(version=1, image_bytes=photos[:1]))
        assert found == ("NOT_FOUND", "Servable not found for request: Specific(descriptor, 1)")


def test_many_swaps_and_rollbacks_lose_and_mix_up_no_request(
    own_base, second_version, make_endpoint, asking, wait_until
):
    options = {"file_system_poll_wait_seconds": 0.02, "enable_batching": True}
    with LocalServer("descriptor", own_base, **options) as server, asking(make_endpoint(server)) as answers:
        wait_until(lambda: answers)
        for version in range(2, 6):
            source = second_version if version % 2 == 0 else own_base / "1"
            shutil.copytree(source, own_base / ".partial")
            (own_base / ".partial").rename(own_base / str(version))
            wait_until(lambda version=version: answers[-1][0] == version)
        shutil.rmtree(own_base / "5")
        wait_until(lambda: answers[-1][0] == 4)
    assert {version for version, _ in answers} <= {1, 2, 3, 4, 5}
    vectors = {version: {v for each, v in answers if each == version} for version in {each for each, _ in answers}}
    assert all(len(found) == 1 for found in vectors.values())
    assert vectors[2] == vectors[4] != vectors[1]


def test_a_version_that_does_not_load_leaves_the_old_one_until_its_files_change(
    own_base, second_version, photos, make_endpoint, wait_until, request_of
):
    with LocalServer("descriptor", own_base, file_system_poll_wait_seconds=0.05) as server:
        endpoint = make_endpoint(server)
        (own_base / "2").mkdir()
        shutil.copy(second_version / "saved_model.pb", own_base / "2")  # without its variables
        wait_until(lambda: states(endpoint).get(2) == "END")
        endpoint.predictions.Predict(request_of(version=1, image_bytes=photos[:1]))
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name, request.model_spec.version.value = "descriptor", 2
        (status,) = endpoint.models.GetModelStatus(request).model_version_status
        assert status.status.error_message
        assert status.status.error_code
        shutil.copytree(second_version / "variables", own_base / "2" / "variables")
        wait_until(lambda: server.version == 2)


def test_a_version_with_damaged_weights_does_not_load(own_base, second_version, make_endpoint, wait_until):
    with LocalServer("descriptor", own_base, file_system_poll_wait_seconds=0.05) as server:
        shutil.copytree(second_version, own_base / ".partial")
        data = own_base / ".partial" / "variables" / "variables.data-00000-of-00001"
        data.write_bytes(bytes(len(data.read_bytes())))
        (own_base / ".partial").rename(own_base / "2")
        wait_until(lambda: states(make_endpoint(server)) == {1: "AVAILABLE", 2: "END"})
        assert server.version == 1


def test_at_the_start_a_lower_version_stands_in_for_a_broken_one(own_base):
    (own_base / "5").mkdir()
    (own_base / "5" / "saved_model.pb").write_bytes(b"broken")
    with LocalServer("descriptor", own_base) as server:
        assert server.version == 1


def test_a_folder_that_is_emptied_leaves_what_is_loaded(own_base, make_endpoint, photos, request_of):
    with LocalServer("descriptor", own_base, file_system_poll_wait_seconds=0.02) as server:
        shutil.rmtree(own_base)
        time.sleep(0.2)
        own_base.mkdir()
        time.sleep(0.2)
        make_endpoint(server).predictions.Predict(request_of(image_bytes=photos[:1]))
