"""One module per format; see ``Format`` in :mod:`ckptaudit.read.opening` for what each offers."""

#: The modules, in the order in which they are asked whether a file is theirs, and imported: one whose magic number is weaker than another's
#: comes later. A pickle before protocol 2 has none at all.
IN_ORDER = ("hdf5", "torch_zip", "torchscript", "keras_zip", "torch_legacy", "safetensors", "tf_bundle", "shards", "onnx", "pickle")
