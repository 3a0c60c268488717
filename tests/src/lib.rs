//! End-to-end tests and benchmarks against the real binaries
