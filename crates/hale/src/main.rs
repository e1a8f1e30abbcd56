//! Keeps what you run healthy, and shows it: command line and wiring.

fn main() {}
