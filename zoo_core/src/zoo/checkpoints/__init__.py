"""Checkpoints: where weights come from, how they are verified, kept, opened and written.

`open_checkpoint(spec)` gives verified, memory-mapped tensors. The parts: `sources` (and `hub`, `web`) deliver a file,
`store` keeps and verifies, `headers` and `files` read, `conversion` turns published `.pth` files into safetensors
once, `keymap` translates published names, `writing` writes. Nothing here imports torch before tensors are asked for.
"""
