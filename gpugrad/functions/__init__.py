"""The functions of the torch namespace: PyTorch's arguments, checked and handed to the ops."""
