import numpy as np
import pytest

from tfretrieval.errors import InputError
from tfretrieval.importing.formats import read_published
from tfretrieval.importing.published import ImportOptions
from tfretrieval.importing.run import import_network

SCALES = (1.0, 2**-0.5, 0.5)


def meta(**given):
    return {
        "architecture": "resnet18", "pooling": "gem", "local_whitening": False, "regional": False, "whitening": False,
        "mean": [0.5, 0.45, 0.4], "std": [0.25, 0.22, 0.2], "outputdim": 512, **given,
    }  # fmt: skip


def resnet(reference, pool, **parts):
    convolutions = reference.features(reference.ResNet("resnet18"))
    return reference.randomise(reference.Retrieval(convolutions, pool, 512, **parts))


def saved(reference, path, network, zipped=True, **given):
    content = {"meta": meta(**given), "state_dict": network.state_dict()}
    reference.torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def imported(path, **wanted):
    return import_network(read_published(path, "auto", ImportOptions()), **wanted)


def check(found, expected):
    np.testing.assert_allclose(np.asarray(found), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["gem", "gemmp", "mac", "spoc", "rmac"])
def test_every_pooling_gives_the_same_descriptors(reference, tmp_path, name):
    pools = {"gem": reference.GeM, "mac": reference.Maximum, "spoc": reference.Mean, "rmac": reference.RMAC}
    network = resnet(reference, reference.GeM(channels=512) if name == "gemmp" else pools[name]())
    found = imported(saved(reference, tmp_path / "net.pth", network, pooling=name))
    pixels = reference.photos(131, 170)
    check(found.model(pixels), reference.describe(network, pixels))
    assert found.report["tensors_unused"] == found.report["tensors_of_classifier"] == []
    assert len(found.report["tensors_used"]) == sum("num_batches" not in key for key in network.state_dict())


@pytest.mark.parametrize("name", ["gem", "mac", "spoc"])
def test_regions_with_their_linear_layer_and_a_linear_layer_of_positions(reference, tmp_path, name):
    pools = {"gem": reference.GeM, "mac": reference.Maximum, "spoc": reference.Mean}
    network = resnet(reference, reference.Regional(pools[name](), 512), local=True, linear=512)
    path = saved(
        reference, tmp_path / "net.pth", network, pooling=name, regional=True, local_whitening=True, whitening=True
    )
    pixels = reference.photos(131, 230)
    check(imported(path).model(pixels), reference.describe(network, pixels))


def test_several_scales_take_the_power_p_without_a_linear_layer_and_1_with_one(reference, tmp_path):
    pixels = reference.photos(97, 130)
    for linear, power in ((0, 2.7), (512, 1.0)):
        network = resnet(reference, reference.GeM(), linear=linear)
        path = saved(reference, tmp_path / "net.pth", network, whitening=bool(linear))
        found = imported(path, scales=SCALES)
        assert found.report["power"] == pytest.approx(power)
        check(found.model(pixels), reference.describe(network, pixels, SCALES, power))


def test_a_fitted_whitening_is_the_one_for_as_many_scales(reference, tmp_path):
    rng, pixels = np.random.default_rng(0), reference.photos(97, 130)
    stored = {
        kind: {"m": 0.02 * rng.random((512, 1)), "P": np.asfortranarray(rng.normal(size=(512, 512)))}
        for kind in ("ss", "ms")
    }
    network = resnet(reference, reference.GeM())
    path = saved(reference, tmp_path / "net.pth", network, Lw={"retrieval-SfM-120k": stored})
    for scales, power, kind in (((1.0,), 1.0, "ss"), (SCALES, 2.7, "ms")):
        vectors = reference.describe(network, pixels, scales, power)
        expected = stored[kind]["P"] @ (vectors.T - stored[kind]["m"])
        expected = (expected / np.linalg.norm(expected, axis=0)).T
        found = imported(path, scales=scales, whitening="retrieval-SfM-120k")
        np.testing.assert_allclose(found.model(pixels), expected, atol=1e-4)
    with pytest.raises(InputError, match=r"--whitening=other is not in .*, which has retrieval-SfM-120k; one of those"):
        imported(path, whitening="other")
    del stored["ms"]
    path = saved(reference, tmp_path / "net.pth", network, Lw={"retrieval-SfM-120k": stored})
    with pytest.raises(InputError, match="was fitted for ss only; ms is wanted for several scales"):
        imported(path, scales=SCALES, whitening="retrieval-SfM-120k")


def test_vgg_is_cut_before_its_last_pooling(reference, tmp_path):
    network = reference.randomise(reference.Retrieval(reference.features(reference.VGG()), reference.GeM(), 512))
    path = saved(reference, tmp_path / "net.pth", network, zipped=False, architecture="vgg16")
    check(imported(path).model(reference.photos()), reference.describe(network, reference.photos()))


def test_mean_and_deviation_are_the_files_as_numbers_of_any_kind(reference, tmp_path):
    network = resnet(reference, reference.Mean())
    path = tmp_path / "net.pth"
    for mean, std in ((np.array([0.1, 0.2, 0.3]), (1, 2, 4)), (reference.torch.full((3,), 0.5), [0.5] * 3)):
        saved(reference, path, network, pooling="spoc", mean=mean, std=std)
        expected = reference.describe(network, reference.photos(), mean=np.asarray(mean).tolist(), std=std)
        check(imported(path).model(reference.photos()), expected)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"architecture": "alexnet"}, "has the architecture alexnet, which is not known here; one of resnet18"),
        ({"pooling": "crow"}, "has the pooling 'crow', which is not known here"),
        ({"mean": [0.1]}, r"has the meta mean \[0.1\]; three numbers are wanted"),
        ({"std": [1, 0, 1]}, r"has the meta std \[1, 0, 1\]; three numbers are wanted"),
        ({"whitening": True}, "has no tensor whiten.weight, which its network needs"),
        ({"pooling": "gemmp", "regional": True}, "has no tensor regional.weight"),
        ({"architecture": "resnet50"}, "features.4.0.conv1.weight has the shape .64, 64, 3, 3.; .64, 64, 1, 1. is"),
        ({"Lw": {"set": {"ss": {"m": [1.0]}}}}, "the whitening set ss is not a dictionary of m and P"),
        ({"Lw": [1]}, "has a list as Lw; a dictionary is wanted"),
    ],
)
def test_what_does_not_fit_is_one_sentence(reference, tmp_path, given, sentence):
    path = saved(reference, tmp_path / "net.pth", resnet(reference, reference.GeM()), **given)
    with pytest.raises(InputError, match=sentence):
        imported(path)


def test_what_the_file_says_is_not_overridden(reference, tmp_path):
    path = saved(reference, tmp_path / "net.pth", resnet(reference, reference.GeM()))
    for options, sentence in (
        (ImportOptions(architecture="resnet50"), "--architecture=resnet50, and .* says resnet18; leave the flag out"),
        (ImportOptions(pooling="mac"), "--pooling=mac, and .* says gem; leave the flag out"),
    ):
        with pytest.raises(InputError, match=sentence):
            read_published(path, "cirtorch", options)


def test_a_missing_tensor_and_values_that_are_no_numbers_are_named(reference, tmp_path):
    network = resnet(reference, reference.GeM())
    content = {"meta": meta(), "state_dict": dict(network.state_dict())}
    content["state_dict"]["pool.p"] = reference.torch.tensor([float("nan")])
    reference.torch.save(content, tmp_path / "net.pth")
    with pytest.raises(InputError, match=r"pool.p holds values that are not finite"):
        imported(tmp_path / "net.pth")
    content["state_dict"]["pool.p"] = reference.torch.tensor([-1.0])
    reference.torch.save(content, tmp_path / "net.pth")
    with pytest.raises(InputError, match=r"has an exponent of -1.0; more than 0 is wanted"):
        imported(tmp_path / "net.pth")
    del content["state_dict"]["features.6.1.bn2.running_var"]
    reference.torch.save(content, tmp_path / "net.pth")
    with pytest.raises(InputError, match=r"has no tensor layer3.1.bn2.running_var, which its network needs"):
        imported(tmp_path / "net.pth")
