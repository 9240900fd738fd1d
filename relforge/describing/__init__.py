"""The reference of all manifests, made of the models that read them."""
