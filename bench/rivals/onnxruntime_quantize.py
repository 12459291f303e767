"""ONNX Runtime's own quantization of the teacher's ONNX file: dynamic int8, or 4-bit weights of MatMul (MatMulNBits)."""
from common import options, package

given = options(kind={"choices": ["dynamic-int8", "matmul-4bits"], "required": True})
onnx = package("onnx", "onnx")
quantization = package("onnxruntime.quantization", "onnxruntime")

if given.kind == "dynamic-int8":
    quantization.quantize_dynamic(given.onnx, given.out, weight_type=quantization.QuantType.QInt8)
else:
    nbits = package("onnxruntime.quantization.matmul_nbits_quantizer", "onnxruntime")
    model = onnx.load(given.onnx)
    quantizer = nbits.MatMulNBitsQuantizer(model, block_size=32, is_symmetric=False, accuracy_level=0)
    quantizer.process()
    quantizer.model.save_model_to_file(given.out, use_external_data_format=False)
