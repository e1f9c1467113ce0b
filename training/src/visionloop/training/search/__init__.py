"""Search of hyper-parameters: trials of one study, each a training, resumable."""
