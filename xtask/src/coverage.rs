//! `cargo xtask coverage`: line coverage of `hale-health`, by the compiler's own instrumentation.
//!
//! The tests are built with `-C instrument-coverage`, and what they leave is read by `llvm-profdata` and `llvm-cov`.
//! Those must be at least as new as the LLVM in rustc: rustup's `llvm-tools` are, and so is Debian's package of the
//! same version. Lines of test modules do not count, on either side.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    Outcome, run,
    tools::{self, Tool},
};

/// The least share of lines, in percent.
const LEAST: f64 = 95.0;

/// Options of `cargo xtask coverage`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print every line that no test reaches.
    #[arg(long)]
    lines: bool,
}

/// Lines of one file: number to how often it ran.
type Lines = BTreeMap<usize, u64>;

/// Builds, runs, reads, tells, and fails below the limit.
pub(crate) fn run(args: &Args) -> Outcome {
    let tools = LlvmTools::find()?;
    let folder = run::target().join("coverage");
    let profiles = folder.join("profiles");
    if profiles.exists() {
        fs::remove_dir_all(&profiles)
            .map_err(|error| format!("cannot empty {}: {error}", profiles.display()))?;
    }
    let programs = run_tests(&folder, &profiles)?;
    let merged = folder.join("merged.profdata");
    run::step(run::program(&tools.profdata).args(["merge", "--sparse", "-o"]).arg(&merged).arg(&profiles))?;
    let mut export = run::program(&tools.cov);
    export.args(["export", "--format=lcov", "--instr-profile"]).arg(&merged);
    for program in &programs {
        export.arg("--object").arg(program);
    }
    let source = run::root().join("crates/hale-health/src");
    let files = read_lcov(&run::read(export.arg("--sources").arg(&source))?);
    report(&files, &source, args.lines)
}

/// Runs the tests of `hale-health` instrumented, in a target folder of their own; returns the programs that ran.
fn run_tests(folder: &Path, profiles: &Path) -> Result<Vec<PathBuf>, String> {
    let mut build = run::cargo();
    build.args(["test", "--package", "hale-health", "--all-features", "--locked", "--lib", "--tests"]);
    build.args(["--target-dir"]).arg(folder);
    build.env("RUSTFLAGS", "-C instrument-coverage").env("CARGO_INCREMENTAL", "0");
    build.env("LLVM_PROFILE_FILE", profiles.join("%p-%m.profraw"));
    let mut programs = Vec::new();
    run::step_reading(&mut build, run::Stream::Stderr, |line| {
        // `Running unittests src/lib.rs (target/coverage/debug/deps/hale_health-0123)`
        let program = line.trim_start().strip_prefix("Running ").and_then(|rest| rest.rsplit_once('('));
        if let Some((_, path)) = program {
            programs.push(run::root().join(path.trim_end_matches(')')));
        }
    })?;
    if programs.is_empty() { Err("no test program of hale-health ran".into()) } else { Ok(programs) }
}

fn report(files: &BTreeMap<PathBuf, Lines>, source: &Path, show_lines: bool) -> Outcome {
    let (mut all, mut hit) = (0, 0);
    println!("{:<40} {:>6} {:>6} {:>8}", "file", "lines", "run", "share");
    for (path, lines) in files {
        let text =
            fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let tests_from = first_test_line(&text);
        let counted: Vec<(usize, u64)> = lines
            .iter()
            .filter(|(line, _)| **line < tests_from)
            .map(|(line, count)| (*line, *count))
            .collect();
        let ran = counted.iter().filter(|(_, count)| *count > 0).count();
        let name = path.strip_prefix(source).unwrap_or(path).display().to_string();
        if name.split('/').any(|part| part.starts_with("tests")) || counted.is_empty() {
            continue;
        }
        println!("{name:<40} {:>6} {ran:>6} {:>7.2}%", counted.len(), percent(ran, counted.len()));
        if show_lines {
            let texts: Vec<&str> = text.lines().collect();
            for (line, _) in counted.iter().filter(|(_, count)| *count == 0) {
                println!("  {name}:{line}: {}", texts.get(line - 1).unwrap_or(&""));
            }
        }
        all += counted.len();
        hit += ran;
    }
    let share = percent(hit, all);
    println!("hale-health: {hit} of {all} lines, {share:.2} %");
    if share < LEAST {
        Err(format!("line coverage of hale-health is {share:.2} %, at least {LEAST} % is wanted"))
    } else {
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of lines are small")]
fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// The line on which the tests of a file begin; past its end when it has none. Tests stand last in a file.
fn first_test_line(text: &str) -> usize {
    let mut lines = text.lines().zip(text.lines().skip(1));
    let at = lines
        .position(|(line, next)| line == "#[cfg(test)]" && next.starts_with("mod ") && next.ends_with('{'));
    at.map_or(usize::MAX, |index| index + 1)
}

/// Reads what `llvm-cov export --format=lcov` prints: `SF:` opens a file, `DA:line,count` is a line of it.
fn read_lcov(text: &str) -> BTreeMap<PathBuf, Lines> {
    let mut files: BTreeMap<PathBuf, Lines> = BTreeMap::new();
    let mut file = PathBuf::new();
    for row in text.lines() {
        if let Some(path) = row.strip_prefix("SF:") {
            file = PathBuf::from(path);
        } else if let Some((line, count)) = row.strip_prefix("DA:").and_then(|rest| rest.split_once(',')) {
            let count = count.split(',').next().and_then(|it| it.parse().ok()).unwrap_or(0);
            if let Ok(line) = line.parse() {
                *files.entry(file.clone()).or_default().entry(line).or_default() += count;
            }
        }
    }
    files
}

/// The two programs that read profiles.
#[derive(Debug)]
struct LlvmTools {
    profdata: PathBuf,
    cov: PathBuf,
}

impl LlvmTools {
    /// Those of the toolchain, or Debian's of the same version, installed when missing.
    fn find() -> Result<Self, String> {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let folder = run::read(run::program(&rustc).args(["--print", "target-libdir"]))?;
        let bundled = Path::new(folder.trim()).with_file_name("bin");
        let found = Self { profdata: bundled.join("llvm-profdata"), cov: bundled.join("llvm-cov") };
        if found.profdata.is_file() && found.cov.is_file() {
            return Ok(found);
        }
        let version = run::read(run::program(&rustc).arg("-vV"))?;
        let major = version.lines().find_map(|line| line.strip_prefix("LLVM version: ")?.split('.').next());
        let major = major.ok_or("rustc does not say which LLVM it has")?;
        let (profdata, cov) = (format!("llvm-profdata-{major}"), format!("llvm-cov-{major}"));
        let package: &'static str = format!("llvm-{major}").leak();
        let purpose = "reads coverage";
        tools::ensure(&[Tool { program: profdata.clone().leak(), package, purpose, versions: None }])?;
        Ok(Self { profdata: profdata.into(), cov: cov.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_from_lcov() {
        let files = read_lcov("SF:/a.rs\nDA:1,3\nDA:2,0\nend_of_record\nSF:/b.rs\nDA:7,1,x\nend_of_record\n");
        assert_eq!(files[Path::new("/a.rs")], Lines::from([(1, 3), (2, 0)]));
        assert_eq!(files[Path::new("/b.rs")], Lines::from([(7, 1)]));
    }

    #[test]
    fn lines_of_the_test_module_do_not_count() {
        assert_eq!(first_test_line("a\n#[cfg(test)]\nmod tests {"), 2);
        assert_eq!(first_test_line("#[cfg(test)]\nmod tests;\n"), usize::MAX);
        assert_eq!(first_test_line("a\n"), usize::MAX);
    }
}
