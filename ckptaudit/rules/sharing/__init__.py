"""Which tensors share their memory."""
