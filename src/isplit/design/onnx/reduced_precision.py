"""Let onnxruntime compute as torch does what a model computes in bfloat16 or float16.

onnxruntime's kernels for CPUs refuse bfloat16, and leave out the rounding between operations on float16. So an
operation on such values is computed in float32 and its result rounded, as torch does it on a CPU:

    bfloat16 ─ Cast ─> float32 ─ operation ─> float32 ─ Cast ─> bfloat16
"""

import onnx
from onnx import TensorProto, helper

_CAST = "Cast"
_REDUCED = (TensorProto.BFLOAT16, TensorProto.FLOAT16)


def compute_in_float32(model: onnx.ModelProto) -> bool:
    """Put casts around the operations on bfloat16 and float16 values of a model; return whether there are any.

    The model is changed. Its weights and the results of operations keep their precision, so that they differ from
    torch's by no more than the order of a sum can make. Operations inside of conditions and loops are left as they are.
    """
    graph = model.graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    # The types of results that the exporter leaves out are inferred.
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=False).graph
    for value in (*inferred.value_info, *graph.value_info, *graph.input, *graph.output):
        kinds[value.name] = value.type.tensor_type.elem_type
    reduced = {name for name, kind in kinds.items() if kind in _REDUCED}
    if not reduced:
        return False
    nodes: list[onnx.NodeProto] = []
    widened: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == _CAST or reduced.isdisjoint(node.input):
            nodes.append(node)
            continue
        for position, name in enumerate(node.input):
            if name not in reduced:
                continue
            if name not in widened:
                widened[name] = f"{name}_float32"
                nodes.append(_cast(name, widened[name], TensorProto.FLOAT))
            node.input[position] = widened[name]
        nodes.append(node)
        for position, name in enumerate(node.output):
            if name in reduced:
                node.output[position] = f"{name}_unrounded"
                nodes.append(_cast(node.output[position], name, kinds[name]))
    del graph.node[:]
    graph.node.extend(nodes)
    return True


def _cast(source: str, target: str, kind: int) -> onnx.NodeProto:
    return helper.make_node(_CAST, [source], [target], name=f"{target}_cast", to=kind)
