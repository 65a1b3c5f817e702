"""The rows of the catalogue, a module a family. Torch-free."""
