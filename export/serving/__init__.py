"""What the public TensorFlow Serving image is started with: configuration files, Docker Compose, Kubernetes."""
