import io
import json
import logging
import os
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rctaf_jax.data import load
from rctaf_jax.data import tfds as tfds_source
from rctaf_jax.data.area import area_averaged
from rctaf_jax.errors import InputError

COPY = Path(os.environ.get("RCTAF_TFDS_DIR") or Path(__file__).parents[3] / "shared/data/tfds")
CLASSES = ("cat", "dog")
TRAIN = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), np.uint8)
TEST = TRAIN[:3, ::-1]
LABELS = {"train": [0, 1, 1, 0, 1, 0], "test": [1, 0, 1]}


def encoded(image: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format=kind)
    return buffer.getvalue()


def serialized(image: bytes, label: int) -> bytes:
    from tensorflow_datasets.proto import tf_example_pb2

    example = tf_example_pb2.Example()
    example.features.feature["image"].bytes_list.value.append(image)
    example.features.feature["label"].int64_list.value.append(label)
    return example.SerializeToString()


def features_json() -> dict:
    package = "tensorflow_datasets.core.features"
    image = {"shape": {"dimensions": ["4", "5", "3"]}, "dtype": "uint8", "encodingFormat": "png"}
    return {
        "pythonClassName": f"{package}.features_dict.FeaturesDict",
        "featuresDict": {
            "features": {
                "image": {"pythonClassName": f"{package}.image_feature.Image", "image": image},
                "label": {
                    "pythonClassName": f"{package}.class_label_feature.ClassLabel",
                    "classLabel": {"numClasses": "2"},
                },
            }
        },
    }


def info_json(name: str, file_format: str) -> dict:
    template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    return {
        "name": name,
        "version": "1.2.0",
        "description": "Two kinds\n  of pet.",
        "location": {"urls": ["https://example.org/pets"]},
        "fileFormat": file_format,
        "splits": [
            {"name": split, "shardLengths": [str(len(labels))], "filepathTemplate": template}
            for split, labels in LABELS.items()
        ],
    }


def write_records(path: Path, records: list[bytes]) -> None:
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(path), "group_size:2")
    for record in records:
        writer.write(record)
    writer.close()


def prepared(
    folder: Path, name: str = "pets", kind: str = "PNG", file_format: str = "array_record"
) -> Path:
    """Writes what TFDS would, and returns the version's folder."""
    version = folder / name / "1.2.0"
    version.mkdir(parents=True)
    (version / "dataset_info.json").write_text(json.dumps(info_json(name, file_format)))
    (version / "features.json").write_text(json.dumps(features_json()))
    (version / "label.labels.txt").write_text("\n".join(CLASSES))
    for split, images in (("train", TRAIN), ("test", TEST)):
        pairs = zip(images, LABELS[split], strict=True)
        records = [serialized(encoded(image, kind), label) for image, label in pairs]
        write_records(version / f"{name}-{split}.array_record-00000-of-00001", records)
    return version


@pytest.fixture(autouse=True)
def _no_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "default"))


@pytest.fixture
def _no_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tfds_source, "_has_tensorflow", lambda: False)


def test_folder_of_lossless_images(tmp_path: Path) -> None:
    version = prepared(tmp_path)
    pets = load(version)
    assert (pets.name, pets.class_names, pets.image_shape) == ("pets", CLASSES, (4, 5, 3))
    assert np.array_equal(pets.train.images, TRAIN)
    assert np.array_equal(pets.test.images, TEST)
    assert pets.train.labels.tolist() == LABELS["train"]
    assert pets.source == (
        "pets 1.2.0 in TFDS's array_record format; its metadata say: Two kinds of pet. "
        "(https://example.org/pets)"
    )
    assert load(version.parent).content_hash == pets.content_hash


def test_highest_version_is_read(tmp_path: Path) -> None:
    version = prepared(tmp_path)
    for other in ("1.10.0", "1.9.0", "1.11.0.incomplete"):
        (version.parent / other).mkdir()
        (version.parent / other / "dataset_info.json").write_text("{}")
    with pytest.raises(InputError, match=r"1\.10\.0"):
        load(version.parent)


def test_cifar_is_found_under_each_name_of_its_folder(tmp_path: Path) -> None:
    version = prepared(tmp_path / "mine", "cifar10")
    hashes = {
        load("cifar10", folder).content_hash
        for folder in (version, version.parent, version.parents[1], str(version.parents[1]))
    }
    assert len(hashes) == 1


def test_cifar_is_found_in_the_default_folder(tmp_path: Path) -> None:
    prepared(tmp_path / "default", "cifar100")
    assert load("cifar100").name == "cifar100"
    assert load("cifar100", tmp_path / "absent").name == "cifar100"


@pytest.mark.parametrize(("name", "said"), [("cifar10", "JPEG-encoded copy"), ("pets", "JPEG")])
def test_source_says_jpeg(name: str, said: str, tmp_path: Path) -> None:
    dataset = load(prepared(tmp_path, name, kind="JPEG"))
    assert dataset.source.startswith(said)
    assert ("differ from the lossless original" in dataset.source) == (name == "cifar10")


def test_cifar_of_another_name_is_refused(tmp_path: Path) -> None:
    version = prepared(tmp_path, "cifar100")
    with pytest.raises(InputError, match="holds cifar100: expected cifar10"):
        load("cifar10", version.parent)


@pytest.mark.usefixtures("_no_tensorflow")
def test_absent_cifar_without_tensorflow_gives_the_commands(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load("cifar10", tmp_path / "my data")
    message = str(caught.value)
    assert "run `pip install 'rctaf-jax[prepare]'` and then" in message
    assert message.endswith(f"`rctaf data cifar10 --data-dir '{tmp_path / 'my data'}'`")
    assert str(tmp_path / "default") in message


@pytest.mark.usefixtures("_no_tensorflow")
def test_tfrecord_without_tensorflow_says_so(tmp_path: Path) -> None:
    version = prepared(tmp_path, file_format="tfrecord")
    with pytest.raises(InputError, match=r"in tfrecord format, which only TensorFlow.*\[prepare\]"):
        load(version)


@pytest.mark.filterwarnings("default")  # TensorFlow's own
def test_tfrecord_with_tensorflow_reads_the_same(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    version = prepared(tmp_path, file_format="tfrecord")
    for split, images in (("train", TRAIN), ("test", TEST)):
        with tf.io.TFRecordWriter(str(version / f"pets-{split}.tfrecord-00000-of-00001")) as file:
            for image, label in zip(images, LABELS[split], strict=True):
                file.write(serialized(encoded(image, "PNG"), label))
    pets = load(version)
    assert np.array_equal(pets.train.images, TRAIN)
    assert pets.test.labels.tolist() == LABELS["test"]


def test_absent_cifar_with_tensorflow_is_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow_datasets as tfds

    def builder(name: str, data_dir: Path, file_format: str) -> types.SimpleNamespace:
        assert file_format == "array_record"
        return types.SimpleNamespace(
            download_and_prepare=lambda: prepared(data_dir, name),
            data_dir=str(data_dir / name / "1.2.0"),
        )

    monkeypatch.setattr(tfds_source, "_has_tensorflow", lambda: True)
    monkeypatch.setattr(tfds, "builder", builder)
    assert np.array_equal(load("cifar10", tmp_path / "new").train.images, TRAIN)


def test_failed_preparation_is_an_input_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow_datasets as tfds

    def builder(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host\nmore lines")

    monkeypatch.setattr(tfds_source, "_has_tensorflow", lambda: True)
    monkeypatch.setattr(tfds, "builder", builder)
    with pytest.raises(InputError, match=r"prepare cifar10 .*ConnectionError: no route to host\)"):
        load("cifar10", tmp_path)


def test_folder_that_tfds_did_not_prepare(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no dataset_info\.json: expected a folder"):
        load(tmp_path)


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"name": 3}', '{"splits": [{}]}'])
def test_damaged_metadata(file: str, content: str, tmp_path: Path) -> None:
    version = prepared(tmp_path)
    (version / file).write_text(content)
    with pytest.raises(InputError) as caught:
        load(version)
    assert "\n" not in str(caught.value)
    assert re.search("expected|must hold one", str(caught.value))


def test_damaged_records(tmp_path: Path) -> None:
    version = prepared(tmp_path)
    path = version / "pets-test.array_record-00000-of-00001"
    whole = path.read_bytes()
    for content in (b"", whole[:100], whole[:-100], bytes(len(whole)), None):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=r"cannot read .*expected an intact") as caught:
            load(version)
        assert "\n" not in str(caught.value)


def test_damaged_images_and_labels(tmp_path: Path) -> None:
    version = prepared(tmp_path)
    path = version / "pets-test.array_record-00000-of-00001"
    good = encoded(TEST[0], "PNG")
    small = encoded(TEST[0, :2], "PNG")
    cases = {
        "cannot read": [(good, 0), (good[:-30], 0), (good, 1)],
        "2 different image shapes": [(good, 0), (small, 0), (good, 1)],
        "labels from -1 to 1": [(good, -1), (good, 0), (good, 1)],
        "one shape": [(small, 0)] * 3,
    }
    for message, pairs in cases.items():
        write_records(path, [serialized(*pair) for pair in pairs])
        with pytest.raises(InputError, match=message):
            load(version)


@pytest.mark.parametrize("missing", ["image", "label", "test"])
def test_folder_of_another_task_is_refused(missing: str, tmp_path: Path) -> None:
    version = prepared(tmp_path)
    features, info = features_json(), info_json("pets", "array_record")
    features["featuresDict"]["features"].pop(missing, None)
    info["splits"] = [split for split in info["splits"] if split["name"] != missing]
    (version / "features.json").write_text(json.dumps(features))
    (version / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(InputError, match="expected a uint8 Image and a ClassLabel, in the splits"):
        load(version)


def test_reader_is_quiet_and_its_log_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.WARNING, "absl"):  # whatever a command in this process has set
        load(prepared(tmp_path))
        assert not caplog.records
        assert capfd.readouterr() == ("", "")
        logging.getLogger("absl").error("another group size")
    assert len(caplog.records) == 1


FOREIGN = {
    "a feature": ("featuresDict", "features", "label", "pythonClassName"),
    "the root": ("pythonClassName",),
    "the other spelling": ("featuresDict", "features", "image", "python_class_name"),
    "an older file's": ("type",),
    "an older file's feature": ("featuresDict", "features", "image", "type"),
    "a place of no meaning": ("else", "pythonClassName"),
}


@pytest.mark.parametrize("keys", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("in_list", [False, True])
def test_a_folder_does_not_run_code(
    keys: tuple[str, ...], in_list: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TFDS imports the module of any class that is named."""
    (tmp_path / "intruder.py").write_text(
        f"open({str(tmp_path / 'was_here')!r}, 'w').close()\n"
        "from tensorflow_datasets import features\nclass Label(features.ClassLabel): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    version = prepared(tmp_path)
    features = features_json()
    place = features
    for key in keys[:-1]:
        place = place.setdefault(key, {})
    place[keys[-1]] = "intruder.Label"
    (version / "features.json").write_text(
        json.dumps({"features": [features]} if in_list else features)
    )
    with pytest.raises(InputError, match=r"features.json names the class 'intruder.Label' as"):
        load(version)
    assert not (tmp_path / "was_here").exists()
    assert "intruder" not in sys.modules


@pytest.mark.parametrize("key", ["json", "content"])
def test_json_inside_of_text_is_refused(key: str, tmp_path: Path) -> None:
    """TFDS parses it again, and imports what it names."""
    version = prepared(tmp_path)
    features = features_json()
    label = features["featuresDict"]["features"]["label"]
    label["jsonFeature"] = {key: '{"\\u0074ype": "intruder.Label", "content": {}}'}
    (version / "features.json").write_text(json.dumps(features))
    with pytest.raises(InputError, match=f"features.json has {key} = .* no JSON inside of text"):
        load(version)


@pytest.mark.parametrize(
    "name",
    [
        "tensorflow_datasets.core.features.intruder.Label",
        "tensorflow_datasets.core.features.feature.importlib.Label",
        "tensorflow_datasets.testing.test_utils.DummyDataset",
        "ClassLabel",
        "",
        "x." * 500,
    ],
)
def test_only_classes_of_tfds_that_are_there(name: str, tmp_path: Path) -> None:
    version = prepared(tmp_path)
    features = features_json()
    features["featuresDict"]["features"]["label"]["pythonClassName"] = name
    (version / "features.json").write_text(json.dumps(features))
    with pytest.raises(InputError, match=r"features.json names the class '.*' as pyt") as caught:
        load(version)
    assert len(str(caught.value)) < 300 + len(str(version))


def test_nested_features_are_a_sentence(tmp_path: Path) -> None:
    version = prepared(tmp_path)
    (version / "features.json").write_text('{"a":' * 100_000)
    with pytest.raises(InputError, match=r"features.json is nested too deeply"):
        load(version)


@pytest.mark.skipif(not (COPY / "cifar10").is_dir(), reason=f"no prepared CIFAR-10 in {COPY}")
def test_cifar10_whole() -> None:
    cifar = load("cifar10", COPY)
    assert cifar.image_shape == (32, 32, 3)
    assert cifar.class_names[:3] == ("airplane", "automobile", "bird")
    assert np.bincount(cifar.train.labels).tolist() == [5000] * 10
    assert np.bincount(cifar.test.labels).tolist() == [1000] * 10
    # The channel means of CIFAR-10, which a JPEG copy keeps: red, green, blue.
    means = cifar.train.images.mean((0, 1, 2)) / 255
    np.testing.assert_allclose(means, [0.4914, 0.4822, 0.4465], atol=2e-3)
    is_jpeg = "JPEG-encoded copy" in cifar.source
    encoding = json.loads((COPY / "cifar10/3.0.2/features.json").read_text())
    declared = encoding["featuresDict"]["features"]["image"]["image"].get("encodingFormat")
    assert is_jpeg == (declared == "jpeg")
    small = area_averaged(cifar, 16).test.images
    blocks = cifar.test.images.astype(np.float64).reshape(-1, 16, 2, 16, 2, 3)
    assert np.array_equal(small, np.floor(blocks.mean((2, 4)) + 0.5))
