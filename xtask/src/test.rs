//! `cargo xtask test`: everything that must pass before a change lands.

use crate::{
    Outcome, check, deploy, docs, protos,
    run::{self, Stream},
    tools,
};

/// Options of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leave formatting, lints and the other checks out.
    #[arg(long)]
    no_check: bool,
    /// Passed on to the test runner: a part of the names of the tests to run.
    filter: Vec<String>,
}

/// How many tests ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// Installs, checks, tests, and closes with the sum of all.
pub(crate) fn run(args: &Args) -> Outcome {
    tools::ensure(tools::FOR_TESTS)?;
    tools::python()?;
    tools::mcp::servers();
    let mut wrong = Vec::new();
    if !args.no_check
        && let Err(message) = check::run(&check::Args::default())
    {
        wrong.push(message);
    }
    let mut tally = Tally::default();
    let tests = if run::on_path("cargo-nextest").is_some() {
        nextest(args, &mut tally)
    } else {
        plain(args, &mut tally)
    };
    wrong.extend(tests.err());
    if args.filter.is_empty() {
        wrong.extend(documentation(&mut tally).err());
        wrong.extend(docs::run(&docs::Args::check_built()).err());
        wrong.extend(protos::run(&protos::Args::check()).err());
        wrong.extend(deploy::run(&deploy::Args::check()).err());
    }
    println!();
    for message in &wrong {
        println!("{message}");
    }
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
    if !wrong.is_empty() {
        return Err(format!("{} of the steps failed", wrong.len()));
    }
    if tally.passed == 0 { Err("no test ran".into()) } else { Ok(()) }
}

fn nextest(args: &Args, tally: &mut Tally) -> Outcome {
    let mut command = run::cargo();
    command.args(["nextest", "run", "--workspace", "--locked", "--no-fail-fast", "--status-level", "slow"]);
    command.args(["--final-status-level", "flaky"]).args(&args.filter);
    run::step_reading(&mut command, Stream::Stderr, |line| tally.read_nextest(line))
}

fn plain(args: &Args, tally: &mut Tally) -> Outcome {
    println!("cargo-nextest is not here; `cargo test` does it, more slowly");
    let mut command = run::cargo();
    command.args([
        "test",
        "--workspace",
        "--locked",
        "--no-fail-fast",
        "--lib",
        "--bins",
        "--tests",
        "--examples",
    ]);
    command.args(&args.filter);
    run::step_reading(&mut command, Stream::Stdout, |line| tally.read_plain(line))
}

fn documentation(tally: &mut Tally) -> Outcome {
    let mut command = run::cargo();
    command.args(["test", "--workspace", "--locked", "--no-fail-fast", "--doc"]);
    run::step_reading(&mut command, Stream::Stdout, |line| tally.read_plain(line))
}

impl Tally {
    /// Adds nextest's closing line: `Summary [   0.1s] 10 tests run: 9 passed (1 slow), 1 failed, 2 skipped`.
    fn read_nextest(&mut self, line: &str) {
        if let Some((_, counts)) =
            line.split_once(" run: ").filter(|_| line.trim_start().starts_with("Summary"))
        {
            self.add(counts, ',');
        }
    }

    /// Adds a closing line of `cargo test`: `test result: ok. 9 passed; 1 failed; 2 ignored; …`.
    fn read_plain(&mut self, line: &str) {
        if let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) {
            self.add(counts, ';');
        }
    }

    fn add(&mut self, counts: &str, between: char) {
        for count in counts.split(between) {
            let mut words = count.split_whitespace();
            let number = words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
            match words.next() {
                Some("passed") => self.passed += number,
                Some("failed" | "timed") => self.failed += number,
                Some("skipped" | "ignored") => self.skipped += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_lines_of_both_runners_are_added_up() {
        let mut tally = Tally::default();
        tally.read_nextest(
            "     Summary [   0.107s] 10 tests run: 8 passed (1 slow), 1 failed, 1 timed out, 3 skipped",
        );
        tally.read_plain(
            "test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        );
        tally.read_plain("running 4 tests");
        assert_eq!(tally, Tally { passed: 12, failed: 2, skipped: 4 });
    }
}
