"""What onnxruntime has to say is raised, not printed."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fewshot_lite.networks.sessions import Bounds, open_session, run_session


def test_a_size_beyond_all_numbers_is_no_message(capfd: pytest.CaptureFixture[str]) -> None:
    shape = helper.make_tensor("shape", TensorProto.INT64, [1], [2**62])
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch"])
    found = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["filled"]),
        helper.make_node("Add", ["filled", "x"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "large", [given], [found], [shape])
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=onnx.IR_VERSION_2023_5_5
    )
    data = model.SerializeToString()
    with pytest.raises(Exception, match=r"(?i)overflow|alloc"):
        run_session(open_session(data, Bounds.of(data)), None, np.zeros(1, np.float32))
    assert capfd.readouterr() == ("", "")
