"""Exports of a student for other runtimes: ONNX, OpenVINO, GGUF, ExecuTorch."""
