"""onnxsim (PyPI) on the teacher's ONNX file: simplification, which changes no number."""
from common import options, package

given = options()
onnx = package("onnx", "onnx")
onnxsim = package("onnxsim", "onnxsim")

simplified, checked = onnxsim.simplify(given.onnx)
if not checked:
    raise SystemExit("onnxsim's own check of the simplified model failed")
onnx.save(simplified, given.out)
