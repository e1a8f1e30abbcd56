//! Doing one check (HTTP, TCP, exec, gRPC), and the engine that does a hundred thousand of them on time
