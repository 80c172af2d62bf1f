"""The runner: sent with every job, run in the image, standard library and cloudpickle only."""
