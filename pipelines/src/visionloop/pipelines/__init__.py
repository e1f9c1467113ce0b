"""What spans stages: the command line, the ring on one machine, Kubeflow pipelines."""
