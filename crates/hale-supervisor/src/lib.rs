//! Components and replicas: drives the lifecycle machines, owns the runtimes, and is embeddable
