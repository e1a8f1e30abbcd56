//! The keeper alone, as a program: what `hale keeper` is inside the one binary.

fn main() -> std::process::ExitCode {
    hale_keeper::run(std::env::args_os().skip(1))
}
