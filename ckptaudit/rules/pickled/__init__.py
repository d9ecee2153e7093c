"""What only pickles bring with them: calls, objects, arrays that are no tensors."""
