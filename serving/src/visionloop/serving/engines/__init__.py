"""TensorRT engines: built, kept in a cache, recorded beside the package."""
