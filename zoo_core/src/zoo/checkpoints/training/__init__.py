"""Training checkpoints: everything a run needs to go on as if it had never stopped, in plain files.

    run/                          one folder a run
      epoch-0003/                 one folder a save, complete or not there
        model.safetensors         the weights, under the model's own names
        config.json               of a zoo model: what zoo.create("file://run/epoch-0003") builds it from
        state.safetensors         every other tensor: optimizer, schedule, scaler, averages, random numbers
        state.json                how those lie together, and every value that is no tensor
        checkpoint.json           the record: epoch, step, metrics, versions, and the SHA-256 of every file

The parts: `trees` turns nested state into JSON and tensors, `capture` and `restore` go between live objects and that,
`folders` knows a run's folder and its records, `commit` writes one folder complete or not at all, `retention` chooses
what stays, `saving` and `loading` are the doors, `sharded` is the same for state that is spread over processes.
"""
