"""Published checkpoints, from their keys and shapes alone: recognised, and every tensor led to where it belongs.

``keys/SPEC.CHECKPOINT.txt`` lists the modules of a reference implementation, the node that each is here, and the
shapes of its tensors. Where the weights went as these files say, the outputs of the reference and of the generated
module agreed to 2e-15 in float64.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segspec.cli import main
from segspec.errors import SpecError
from segspec.spec.load import load
from segspec.weights import formats
from segspec.weights.published import Published, recognise
from segspec.weights.state import entries
from segspec.weights.tensors import of_array

FILES = sorted((Path(__file__).parent / "keys").glob("*.txt"))
PRESETS = {
    "deeplabv3.paddleseg": "paddleseg",
    "deeplabv3plus.paddleseg": "paddleseg",
    "ginet.paddleseg": "paddleseg",
    "glore.paddleseg": "paddleseg",
    "hrnet_seg.paddleseg": "paddleseg",
    "pspnet.paddleseg": "paddleseg",
    "resnet.paddleseg": "vd",
    "u2net_seg.paddleseg": "paddleseg",
    "u2net_seg.paddleseg_small": "paddleseg_small",
}

Shapes = dict[str, tuple[int, ...]]


def listed(path: Path) -> tuple[Shapes, dict[str, str]]:
    """The shapes of a reference's tensors by key, and for each of our nodes the module that it is there."""
    shapes, nodes = {}, {}
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        module, node, *tensors = line.split()
        nodes[node] = module
        for slot, _, shape in (tensor.partition("=") for tensor in tensors):
            sizes = () if shape == "-" else tuple(map(int, shape.split("×")))
            shapes[f"{module}.{slot}" if slot else module] = sizes
    return shapes, nodes


def keys(name: str) -> Shapes:
    return listed(Path(__file__).parent / "keys" / f"{name}.txt")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_tensor_of_a_reference_has_its_place(path: Path) -> None:
    spec, checkpoint = path.stem.split(".")
    shapes, nodes = listed(path)
    found = recognise(load(spec), shapes)
    assert found.checkpoint == checkpoint.removesuffix("_small")
    assert found.graph.preset == PRESETS.get(path.stem, "")
    for name, source in found.sources.items():
        node = name if name in nodes else name.rpartition(".")[0]
        assert source.key in (nodes[node], f"{nodes[node]}.{source.key.rpartition('.')[2]}"), name
        assert not source.reversed
    used = {source.key for source in found.sources.values()}
    assert len(used) == len(found.sources)
    assert used | set(found.ignored) == shapes.keys()
    assert {*found.sources, *found.zeros, *found.left} == {entry.name for entry in entries(found.graph)}


def test_statistics_are_not_parameters() -> None:
    """Equal shapes would hide it: the framework's own names of BatchNorm's statistics are told apart."""
    found = recognise(load("ginet"), keys("ginet.paddleseg"))
    ends = {"weight": "weight", "bias": "bias", "running_mean": "_mean", "running_var": "_variance"}
    for entry in entries(found.graph):
        if entry.op.startswith("batch_norm"):
            assert found.sources[entry.name].key.rpartition(".")[2] == ends[entry.slot]


def test_layout_is_the_frameworks_not_the_rank() -> None:
    """A linear layer's weight is stored [in, out] there, also a square one, and nothing else of two axes is turned."""
    found = recognise(load("ginet"), keys("ginet.paddleseg"))
    turned = {name for name, source in found.sources.items() if source.transposed}
    assert turned == {"fc1.linear.weight", "fc2.linear.weight"}
    assert found.sources["embeddings"].key == "head.inp"


def test_what_a_file_lacks_and_what_is_zero() -> None:
    assert recognise(load("ginet"), keys("ginet.paddleseg")).left == ("presence.weight", "presence.bias")
    assert recognise(load("resnet"), keys("resnet.paddleseg")).left == ("fc.weight", "fc.bias")
    assert recognise(load("deeplabv3"), keys("deeplabv3.paddleseg")).zeros == ("aspp.context.conv.bias",)
    unet = recognise(load("unet_bilinear"), keys("unet_bilinear.paddleseg"))
    assert unet.ignored == ("conv.weight", "conv.bias")


def test_a_backbone_by_itself_and_in_a_network_go_by_the_same_rules() -> None:
    shapes = keys("hrnet_seg.paddleseg")
    inside = {key.removeprefix("backbone."): shape for key, shape in shapes.items() if key.startswith("backbone.")}
    alone, whole = recognise(load("hrnet"), inside), recognise(load("hrnet_seg"), shapes)
    assert all(
        whole.sources[f"backbone.{name}"].key == f"backbone.{source.key}" for name, source in alone.sources.items()
    )
    heads = ("incre_modules_", "downsamp_modules_", "final_layer", "classifier")
    assert alone.left
    assert all(name.startswith(heads) for name in alone.left)


def test_the_number_of_classes_is_the_files() -> None:
    found = recognise(load("glore"), keys("glore.paddleseg"))
    assert found.graph.parameters["num_classes"] == 19
    assert found.left == ()


def test_a_classifier_of_other_classes_is_left() -> None:
    found = recognise(load("ginet"), keys("ginet.paddleseg"), {"num_classes": 5})
    assert found.graph.parameters["num_classes"] == 5
    heads = {name for name in found.left if not name.startswith("presence")}
    assert heads == {
        "embeddings",
        "unit.word_gcn.conv1.weight",
        "unit.word_gcn.conv1.bias",
        "unit.interaction.semantic_scale",
        "classifier.weight",
        "classifier.bias",
        "aux_head.classifier.weight",
        "aux_head.classifier.bias",
    }
    assert not heads & found.sources.keys()


def test_a_preset_that_is_asked_for_is_taken() -> None:
    shapes = keys("deeplabv3plus.bubbliiiing")
    assert recognise(load("deeplabv3plus"), shapes).graph.preset == ""
    assert recognise(load("deeplabv3plus"), shapes, preset="stride8").graph.preset == "stride8"


# --- what the rules must not do, on a small network ------------------------------------------------------

NET = """segspec: 1
name: net
import: {{backbone.yaml: [backbone]}}
params: {{in_channels: 3, num_classes: 2, deep: false}}
inputs: {{image: {{channels: in_channels}}}}
nodes:
  encoder: {{block: backbone, from: image, width: 4}}
  if deep:
    extra: {{op: conv2d, out_channels: 4, kernel_size: 1}}
  fc: {{op: conv2d, out_channels: num_classes, kernel_size: 1}}
outputs: [fc]
presets: {{deep: {{deep: true}}}}
checkpoints:
  theirs:
    title: a checkpoint
    backend: torch
{rest}"""

BACKBONE = """segspec: 1
name: backbone
params: {in_channels: 3, width: 8}
inputs: {image: {channels: in_channels}}
nodes:
  for i in range(2):
    conv{i}: {op: conv2d, out_channels: width, kernel_size: 3, padding: 1, bias: false}
    bn{i}: {op: batch_norm2d}
outputs: [bn1]
checkpoints:
  flat:
    title: one after another
    backend: torch
    let: {parts: "['conv', 'bn']"}
    rules:
      for i in range(2):
        for k, part in enumerate(parts):
          stack.{2 * i + k}: "{part}{i}"
    bgr: conv0
"""

WITHIN = "      body: {node: encoder, checkpoint: flat}\n"
RULES = f"    rules:\n{WITHIN}      head: fc\n"


def file(*leave: str, **more: tuple[int, ...]) -> Shapes:
    """The shapes of the small network's published tensors."""
    found: Shapes = {}
    for i, channels in ((0, 3), (2, 4)):
        found[f"body.stack.{i}.weight"] = (4, channels, 3, 3)
        for slot in ("weight", "bias", "running_mean", "running_var"):
            found[f"body.stack.{i + 1}.{slot}"] = (4,)
        found[f"body.stack.{i + 1}.num_batches_tracked"] = ()
    found |= {"head.weight": (2, 4, 1, 1), "head.bias": (2,)}
    return {key: shape for key, shape in found.items() if key not in leave} | more


@pytest.fixture
def recognised(tmp_path: Path) -> Any:
    def run(rest: str, shapes: Shapes, settings: dict[str, Any] | None = None, **given: Any) -> Published:
        (tmp_path / "backbone.yaml").write_text(BACKBONE)
        (tmp_path / "net.yaml").write_text(NET.format(rest=rest))
        return recognise(load(tmp_path / "net.yaml"), shapes, settings, **given)

    return run


def refusal(run: Any, *arguments: Any, **given: Any) -> str:
    with pytest.raises(SpecError) as caught:
        run(*arguments, **given)
    return str(caught.value)


def test_rules_of_a_block_hold_where_it_stands(recognised: Any) -> None:
    found = recognised(RULES, file())
    assert {name: source.key for name, source in found.sources.items() if name.endswith("weight")} == {
        "encoder.conv0.weight": "body.stack.0.weight",
        "encoder.bn0.weight": "body.stack.1.weight",
        "encoder.conv1.weight": "body.stack.2.weight",
        "encoder.bn1.weight": "body.stack.3.weight",
        "fc.weight": "head.weight",
    }
    assert found.ignored == ("body.stack.1.num_batches_tracked", "body.stack.3.num_batches_tracked")


def test_bgr_turns_the_first_convolution_round(recognised: Any) -> None:
    found = recognised(RULES, file())
    assert [name for name, source in found.sources.items() if source.reversed] == ["encoder.conv0.weight"]


def test_a_rule_that_no_tensor_meets(recognised: Any) -> None:
    message = refusal(recognised, RULES + "      aux.{i}: fc\n", file())
    assert "net.yaml:20:7: error[rule]: no tensor of the file is called 'aux.{i}'" in message


def test_a_rule_in_a_block_that_no_tensor_meets(recognised: Any) -> None:
    stacked = {key.replace("stack.3", "stack.9"): shape for key, shape in file().items()}
    message = refusal(recognised, RULES, stacked)
    assert "backbone.yaml:18:11: error[rule]: no tensor of the file is called 'stack.3'" in message
    assert "net.yaml:18:7: error[rule]: 'body.stack.9.weight' would be 'encoder.stack.9.weight'" in message
    assert "it lacks encoder.* (4 of 10) of net, its keys read as those of 'theirs'" in message


def test_a_number_that_a_rule_has_no_path_for(recognised: Any) -> None:
    rules = f"    rules:\n{WITHIN}      head.{{k}}: \"{{['fc'][k]}}\"\n"
    numbered = {key.replace("head", "head.1"): shape for key, shape in file().items()}
    message = refusal(recognised, rules, numbered)
    assert "net.yaml:19:17: error[expression]: " in message
    assert recognised(rules, {key.replace("head", "head.0"): shape for key, shape in file().items()})


def test_a_number_beyond_all_bounds(recognised: Any) -> None:
    rules = f"    rules:\n{WITHIN}      head.{{k}}: \"{{['fc'][k]}}\"\n"
    message = refusal(recognised, rules, file() | {f"head.{'9' * 6000}.weight": (1,)})
    assert "error[rule]: no tensor of the file is called 'head.{k}'" in message


def test_a_word_that_no_name_has(recognised: Any) -> None:
    message = refusal(recognised, "    words: {_conv: conv}\n" + RULES, file())
    assert "net.yaml:17:13: error[rule]: no name in the file has the part '_conv'" in message


def test_a_word_that_only_names_in_a_block_have(recognised: Any) -> None:
    message = refusal(recognised, "    words: {stack: pile}\n" + RULES, file())
    assert "net.yaml:17:13: error[rule]: no name in the file has the part 'stack'" in message


def test_a_tensor_that_meets_two_rules(recognised: Any) -> None:
    message = refusal(recognised, RULES + "      head.bias: fc.bias\n", file())
    assert "net.yaml:20:7: error[rule]: the rules 'head' and 'head.bias' are both met by 'head.bias'" in message


def test_a_tensor_that_meets_a_rule_and_one_of_a_block(recognised: Any) -> None:
    message = refusal(recognised, RULES + "      body.stack.0: encoder.conv0\n", file())
    assert "'stack.0' and 'body.stack.0' are both met by 'body.stack.0.weight'" in message


def test_two_tensors_that_would_be_one(recognised: Any) -> None:
    message = refusal(recognised, RULES, file(**{"fc.weight": (2, 4, 1, 1)}))
    assert "'head.weight' and 'fc.weight' would both be 'fc.weight'" in message
    found = recognised(RULES + "    ignore: fc\n", file(**{"fc.weight": (2, 4, 1, 1)}))
    assert found.sources["fc.weight"].key == "head.weight"
    assert "fc.weight" in found.ignored


def test_a_rule_that_leads_nowhere(recognised: Any) -> None:
    message = refusal(recognised, RULES.replace("head: fc", "head: fd"), file())
    assert "error[rule]: 'head.weight' would be 'fd.weight', which the network does not have (and 1 more so)" in message
    assert "did you mean 'fc.weight'?" in message


def test_tensors_left_on_either_side(recognised: Any) -> None:
    message = refusal(recognised, RULES, file("head.bias", **{"aux.0.weight": (1,), "aux.0.bias": (1,)}))
    assert "net has no place for aux.0.weight, aux.0.bias of it, its keys read as those of 'theirs'" in message
    assert "it lacks fc.bias of net, its keys read as those of 'theirs'" in message
    found = recognised(RULES + "    ignore: aux.{i}\n", file(**{"aux.0.weight": (1,), "aux.10.bias": (1,)}))
    assert found.ignored[-2:] == ("aux.0.weight", "aux.10.bias")


def test_a_name_is_no_prefix_of_another(recognised: Any) -> None:
    message = refusal(recognised, RULES + "    ignore: aux\n", file(**{"auxiliary.weight": (1,)}))
    assert "net has no place for auxiliary.weight of it" in message


def test_a_tensor_of_another_shape(recognised: Any) -> None:
    message = refusal(recognised, RULES, file(**{"body.stack.2.weight": (4, 4, 1, 1)}))
    assert "body.stack.2.weight is 4×4×1×1 and should be 4×4×3×3" in message


def test_what_is_allowed(recognised: Any) -> None:
    shapes = file("head.bias", **{"aux.weight": (1,), "body.stack.2.weight": (4, 4, 1, 1)})
    found = recognised(RULES, shapes, allowed=["fc.*", "aux.*", "body.stack.2.*"])
    assert found.left == ("encoder.conv1.weight", "fc.bias")
    assert "aux.weight" in found.ignored
    assert "aux.weight" in refusal(recognised, RULES, shapes, allowed=["fc.*", "body.*"])


def test_conditions_and_presets(recognised: Any) -> None:
    deep = RULES + "      if deep:\n        more: extra\n    presets: [deep, defaults]\n"
    assert recognised(deep, file()).graph.preset == ""
    more = {"more.weight": (4, 4, 1, 1), "more.bias": (4,)}
    assert recognised(deep, file(**more)).graph.preset == "deep"
    assert recognised(deep, file(**more), {"deep": True}, preset="").graph.parameters["deep"] is True


def test_classes(recognised: Any) -> None:
    five = file() | {"head.weight": (5, 4, 1, 1), "head.bias": (5,)}
    assert recognised(RULES, five).graph.parameters["num_classes"] == 5
    left = recognised(RULES, five, {"num_classes": 3})
    assert left.left == ("fc.weight", "fc.bias")
    message = refusal(recognised, RULES, file() | {"head.weight": (5, 4, 1, 1), "head.bias": (7,)})
    assert "head.bias is 7 and should be 5" in message


def test_names_and_backends(recognised: Any) -> None:
    assert recognised(RULES, file(), name="theirs", backend="torch").checkpoint == "theirs"
    assert "did you mean 'theirs'?" in refusal(recognised, RULES, file(), name="their")
    none = refusal(recognised, RULES, file(), backend="paddle")
    assert "error[checkpoint]: the file is no checkpoint that 'net' knows" in none


def test_a_file_of_something_else(recognised: Any) -> None:
    message = refusal(recognised, RULES, {"a.weight": (3,)})
    assert message == "error[checkpoint]: the file is no checkpoint that 'net' knows\n  help: it knows theirs"


@pytest.mark.parametrize("rest", ["    lacks: fc\n", "    zeros: [fc.weight, fc.bias]\n"])
def test_what_need_not_be_in_the_file(recognised: Any, rest: str) -> None:
    body = {key: shape for key, shape in file().items() if key.startswith("body")}
    found = recognised(f"    rules:\n{WITHIN}{rest}", body)
    assert {*found.left, *found.zeros} == {"fc.weight", "fc.bias"}
    named = recognised(f"    rules:\n{WITHIN}      head: fc\n{rest}", file())
    assert not {*named.left, *named.zeros}


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("    zeros: fd.bias\n", "net.yaml:20:12: error[rule]: the network has no tensor 'fd.bias'"),
        ("    bgr: fd\n", "net.yaml:20:10: error[rule]: the network has no tensor 'fd.weight'"),
    ],
)
def test_tensors_that_the_network_does_not_have(recognised: Any, rest: str, message: str) -> None:
    assert message in refusal(recognised, RULES + rest, file())


@pytest.mark.parametrize(
    ("within", "message"),
    [
        ("{node: encoder, checkpoint: flt}", "error[unknown-checkpoint]: 'backbone' has no checkpoint 'flt'"),
        ("{node: encodr, checkpoint: flat}", "error[rule]: 'encodr' is no block of the network"),
        ("{node: fc, checkpoint: flat}", "error[rule]: 'fc' is no block of the network"),
    ],
)
def test_blocks_that_bring_no_rules(recognised: Any, within: str, message: str) -> None:
    assert message in refusal(recognised, f"    rules:\n      body: {within}\n      head: fc\n", file())


def written(folder: Path, shapes: Shapes) -> dict[str, np.ndarray]:
    """The small network's published tensors, drawn and written as ``theirs.pth``."""
    draw = np.random.default_rng(0)
    arrays = {
        key: draw.standard_normal(shape).astype(np.float32) if shape else np.array(7, np.int64)
        for key, shape in shapes.items()
    }
    tensors = {key: of_array(key, array) for key, array in arrays.items()}
    formats.write(folder / "theirs.pth", "archive", tensors, {})
    return arrays


def test_convert(tmp_path: Path, recognised: Any, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    rest = RULES + "    zeros: fc.bias\n    ignore: aux\n"
    recognised(rest, file())
    arrays = written(tmp_path, file("head.bias", **{"aux.weight": (3,)}))
    for target in ("own.pdparams", "own.safetensors"):
        assert main(["weights", "convert", "net.yaml", "theirs.pth", target]) == 0
        said = capsys.readouterr().err
        assert "note: theirs.pth is read as a checkpoint, for net" in said
        assert "note: not used: aux.weight" in said
        assert "note: zero, as it is not in the published network: fc.bias" in said
        found = {key: tensor.read() for key, tensor in formats.read(Path(target)).tensors.items()}
        assert np.array_equal(found["encoder.conv0.weight"], arrays["body.stack.0.weight"][:, ::-1])
        assert np.array_equal(found["encoder.conv1.weight"], arrays["body.stack.2.weight"])
        variance = found["encoder.bn1._variance" if target.endswith("pdparams") else "encoder.bn1.running_var"]
        assert np.array_equal(variance, arrays["body.stack.3.running_var"])
        assert np.array_equal(found["fc.bias"], np.zeros(2, np.float32))


def test_convert_refuses_what_is_none_of_them(tmp_path: Path, recognised: Any, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    recognised(RULES, file())
    written(tmp_path, file("body.stack.2.weight", **{"head.weight": (2, 4, 3, 3)}))
    assert main(["weights", "convert", "net.yaml", "theirs.pth", "own.pdparams"]) == 2
    said = capsys.readouterr().err
    assert "theirs.pth: error[checkpoint]: it lacks encoder.conv1.weight of net" in said
    assert "head.weight is 2×4×3×3 and should be 2×4×1×1" in said
    assert not (tmp_path / "own.pdparams").exists()
    assert main(["weights", "convert", "net.yaml", "theirs.pth", "own.pdparams", "--checkpoint", "their"]) == 2
    assert "did you mean 'theirs'?" in capsys.readouterr().err


def test_convert_refuses_whole_numbers(tmp_path: Path, recognised: Any, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    recognised(RULES, file())
    tensors = {key: of_array(key, np.zeros(shape, np.int64)) for key, shape in file().items()}
    formats.write(tmp_path / "theirs.pth", "archive", tensors, {})
    assert main(["weights", "convert", "net.yaml", "theirs.pth", "own.pdparams"]) == 2
    assert (
        "theirs.pth: error[checkpoint]: these tensors are of whole numbers: body.stack.0.weight"
        in capsys.readouterr().err
    )
