"""Who says what about a digest: in-toto statements, signatures, how they lie beside an image."""
