"""The container engine: BuildKit builds, containers and images, registries."""
