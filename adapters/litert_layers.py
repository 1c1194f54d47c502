"""The layers of a flatbuffer of LiteRT as one step ran them, with all that the oracle needs."""

from __future__ import annotations

from collections.abc import Mapping

import flatbuffers
import numpy as np

from adapters.base import require
from adapters.litert_graph import WEIGHT, Contraction, Graph, scales_of, schema
from adapters.quantization import Layer, Numbers, Range

IDENTIFIER = b"TFL3"  # of the format, in the first bytes of a file
#: Integers leave these as they came in, or with other numbers.
EXACT = {
    "QUANTIZE", "DEQUANTIZE", "RESHAPE", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "SPLIT", "PAD",
    "PADV2", "MAX_POOL_2D", "CONCATENATION", "GATHER", "EXPAND_DIMS", "SQUEEZE", "PACK", "UNPACK",
    "RELU", "DELEGATE",
}  # fmt: skip


def keeping(content: bytes, graph: Graph) -> bytes:
    """The same flatbuffer with what goes into contractions and comes out of them as outputs, behind
    its own. So the delegate gets the same operations in one piece: an interpreter that is asked to
    preserve all tensors gives each operation a delegate of its own, which fuses otherwise."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    ends = {t for one in graph.contractions for t in (graph.padding(one)[0], one.y)}
    subgraph = model.subgraphs[0]
    known = {*subgraph.inputs, *subgraph.outputs}
    more = sorted(t for t in ends if t not in known and graph.is_computed(t))
    subgraph.outputs = np.array([*subgraph.outputs, *more], np.int32)
    model.signatureDefs = None  # they name the outputs that there were
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def layers(graph: Graph) -> list[Layer]:
    """The contractions of integers, in the order in which they ran in the interpreter, whose model
    has to be `keeping`. Of a parameter whose transpose is a weight there is none: the vocabulary
    knows it as a table."""
    judged = [(one, graph.match(one)) for one in graph.contractions if graph.weights[one.stored]]
    between = _computes_between(
        graph, {one.stored for one, match in judged if match and not match.turned}
    )
    found = []
    for one, match in judged:
        if match is None or match.turned:
            continue
        w, w_numbers = graph.weight(one)
        assert w_numbers is not None
        source, padding = graph.padding(one)
        x, x_numbers, y = graph.value(source), graph.numbers(source), graph.value(one.y)
        y_numbers, dense = graph.numbers(one.y), one.kind == "FULLY_CONNECTED"
        attributes = {} if dense else _attributes(graph, one, x, w, padding)
        found.append(
            Layer(
                match.name,
                "dense" if dense else "conv2d",
                x=x.reshape(*y.shape[:-1], w.shape[0]) if dense else x,
                w=w,
                y=y,
                w_numbers=w_numbers,
                x_numbers=x_numbers or _range(graph, one, attributes, w),
                y_numbers=y_numbers,
                bias=_bias(graph, one, x_numbers, w_numbers),
                attributes=attributes,
                relu=_relu(graph.options(one).FusedActivationFunction(), y_numbers),
                folded=match.folded,
                between=between,
            )
        )
    return found


def _computes_between(graph: Graph, weights: set[int]) -> bool:
    """Whether integers are used outside of layers with these weights: by other operations, or in
    tables."""
    others = (node for node in graph.nodes if node["op_name"] not in {*EXACT, *WEIGHT})
    made = (graph.tensors[int(y)] for node in others for y in node["outputs"] if y >= 0)
    tables = (t for t in graph.constants() if t["dtype"] == np.int8 and t["index"] not in weights)
    return any(scales_of(tensor).size for tensor in made) or any(tables)


def _range(graph: Graph, one: Contraction, attributes: Mapping[str, int], w: np.ndarray) -> Range:
    """The rule of the kernel for an input of real numbers: a row of a dense layer or an image of a
    convolution is spread over all 256 integers. XNNPACK multiplies matrices where a kernel is 1x1,
    and there spreads each pixel. Raises ValueError for the symmetric rule, which the converter does
    not ask for."""
    dense, delegated = one.kind == "FULLY_CONNECTED", graph.is_delegated(one)
    if dense and not delegated and not graph.options(one).AsymmetricQuantizeInputs():
        raise ValueError("a symmetric range of a dense layer, but should be asymmetric")
    plain = not dense and attributes["stride"] == 1 and not attributes["padding"]
    by_pixel = delegated and plain and w.shape[:2] == (1, 1)
    return Range((-1,) if dense or by_pixel else (-3, -2, -1), False, -128, 127)


def _bias(
    graph: Graph, one: Contraction, x_numbers: Numbers | None, w_numbers: Numbers
) -> np.ndarray | None:
    """Integers of a bias are added to those of the products: they have the scale of these."""
    if one.bias < 0:
        return None
    bias = graph.value(one.bias)
    if x_numbers is None:
        return bias
    return bias.astype(np.float64) * np.asarray(x_numbers.scale, np.float64) * w_numbers.scale


def _attributes(
    graph: Graph, one: Contraction, x: np.ndarray, w: np.ndarray, padding: int
) -> dict[str, int]:
    """Of conv2d, with `padding` zeros put around x before. Raises ValueError where the vocabulary
    has no such convolution."""
    options = graph.options(one)
    strides = options.StrideH(), options.StrideW()
    dilations = options.DilationHFactor(), options.DilationWFactor()
    side = w.shape[0]
    same = options.Padding() == schema.Padding.SAME
    if strides[0] != strides[1] or dilations[0] != dilations[1]:
        raise ValueError(f"strides {strides} and dilations {dilations}, but should be one of each")
    if same and (strides[0] > 1 or w.shape[0] != w.shape[1] or side % 2 == 0):
        raise ValueError(f"padding SAME of a kernel {w.shape[:2]} with stride {strides[0]}")
    return {
        "stride": strides[0],
        "padding": padding + (dilations[0] * (side - 1) // 2 if same else 0),
        "dilation": dilations[0],
        "groups": x.shape[-1] // w.shape[2],
    }


def _relu(activation: int, y_numbers: Numbers | None) -> bool:
    """Whether there is a relu in the layer. A RELU6 is one where the integers of its results end at
    6. Raises Unsupported for what is something else."""
    known = schema.ActivationFunctionType
    if activation == known.RELU6 and y_numbers is not None:
        end = float(y_numbers.real(np.array(y_numbers.high)).max())
        return end <= 6 * (1 + 2.0**-20)
    names = {value: name for name, value in vars(known).items() if name.isupper()}
    require(
        activation in (known.NONE, known.RELU),
        f"a layer of the flatbuffer ends in {names.get(activation)}, which is not judged",
    )
    return bool(activation == known.RELU)
