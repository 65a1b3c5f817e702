"""The sizes of every family and what was published of them, one module a kind of family. Data only, torch-free."""
