//! The keeper, for the tests and benchmarks of this crate: what `hale keeper` is in the one binary.

fn main() -> std::process::ExitCode {
    hale_keeper::run(std::env::args_os().skip(1))
}
