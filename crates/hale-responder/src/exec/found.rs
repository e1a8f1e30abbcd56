//! What a run has left: artifacts, the one that was asked for, and what it cost (R10, R7).

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use hale_api::runs::Artifact;
use rustix::fs::{AtFlags, Dir, FileType, statat};

use super::beneath;

/// The most artifacts that are listed.
const MAX_ARTIFACTS: usize = 1000;
/// The most entries that are looked at, and how deep.
const MAX_ENTRIES: usize = 10_000;
const MAX_DEPTH: usize = 16;
/// What a run may at most say that it cost.
const MAX_COST: f64 = 1e9;

/// The files in `output/`, sorted by path; 1,000 at most. Symlinks are left out.
pub(super) fn artifacts(workspace: &Path) -> Vec<Artifact> {
    let mut found = Vec::new();
    let mut budget = MAX_ENTRIES;
    let output = beneath::directory(workspace).and_then(|it| beneath::directory_in(&it, Path::new("output")));
    if let Ok(output) = output {
        list(&output, Path::new("output"), 0, &mut budget, &mut found);
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn list(at: &File, path: &Path, depth: usize, budget: &mut usize, found: &mut Vec<Artifact>) {
    let Ok(entries) = Dir::read_from(at) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if *budget == 0 || found.len() >= MAX_ARTIFACTS {
            return;
        }
        *budget -= 1;
        let Ok(stat) = statat(at, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        // The record is JSON: a name that is no UTF-8 is shown as well as it can be.
        let shown = path.join(name.to_string_lossy().as_ref());
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                found.push(Artifact { path: shown, bytes: u64::try_from(stat.st_size).unwrap_or(0) });
            }
            FileType::Directory if depth < MAX_DEPTH => {
                let below = beneath::directory_in(at, &os(name));
                if let Ok(below) = below {
                    list(&below, &shown, depth + 1, budget, found);
                }
            }
            _ => {}
        }
    }
}

fn os(name: &std::ffi::CStr) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(name.to_bytes()))
}

/// Whether the file that was asked for is there, of its size; else why not.
pub(super) fn required(workspace: &Path, path: &Path, least: u64) -> Result<(), String> {
    let shown = path.display();
    let file = beneath::file(workspace, path)
        .map_err(|error| format!("{shown} was asked for, and can't be had: {error}"))?;
    let bytes = file.metadata().map_err(|error| format!("can't look at {shown}: {error}"))?.len();
    match bytes >= least {
        true => Ok(()),
        false => Err(format!("{shown} has {bytes} bytes; at least {least} were asked for")),
    }
}

/// What `output/cost` says: a number of at least 0.
pub(super) fn cost(workspace: &Path) -> Option<f64> {
    let file = beneath::file(workspace, Path::new("output/cost")).ok()?;
    let mut text = String::new();
    file.take(64).read_to_string(&mut text).ok()?;
    let cost: f64 = text.trim().parse().ok()?;
    (cost.is_finite() && (0.0..=MAX_COST).contains(&cost)).then_some(cost.abs())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn artifacts_are_listed_and_symlinks_are_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("output/b")).unwrap();
        fs::write(dir.path().join("output/b/two"), "22").unwrap();
        fs::write(dir.path().join("output/a"), "1").unwrap();
        symlink("/etc/passwd", dir.path().join("output/out")).unwrap();
        symlink("/etc", dir.path().join("output/all")).unwrap();
        let artifact = |path: &str, bytes| Artifact { path: path.into(), bytes };
        assert_eq!(artifacts(dir.path()), [artifact("output/a", 1), artifact("output/b/two", 2)]);
        fs::rename(dir.path().join("output"), dir.path().join("real")).unwrap();
        symlink("real", dir.path().join("output")).unwrap();
        assert_eq!(artifacts(dir.path()), []);
    }

    #[test]
    fn an_artifact_counts_only_as_a_file_of_its_own_and_of_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("output");
        fs::create_dir(&output).unwrap();
        let asked = |name: &str, least| required(dir.path(), Path::new(name), least);
        assert!(asked("output/report.md", 1).unwrap_err().contains("report.md"));
        fs::write(output.join("report.md"), "12345").unwrap();
        assert_eq!(asked("output/report.md", 5), Ok(()));
        assert_eq!(asked("./output/report.md", 5), Ok(()));
        assert!(asked("output/report.md", 6).unwrap_err().contains("has 5 bytes"));
        symlink("/etc/passwd", output.join("link")).unwrap();
        assert!(asked("output/link", 1).unwrap_err().contains("symlink"));
        symlink("/etc", output.join("etc")).unwrap();
        assert!(asked("output/etc/passwd", 1).is_err());
        assert!(asked("../../etc/passwd", 1).unwrap_err().contains("outside"));
        assert!(asked("output", 1).unwrap_err().contains("regular"));
    }

    #[test]
    fn a_cost_is_a_finite_number_of_at_least_zero() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("output")).unwrap();
        assert_eq!(cost(dir.path()), None);
        for (text, expected) in [
            ("1.25\n", Some(1.25)),
            ("0", Some(0.0)),
            ("-1", None),
            ("NaN", None),
            ("inf", None),
            ("1e300", None),
            ("3 dollars", None),
            ("", None),
        ] {
            fs::write(dir.path().join("output/cost"), text).unwrap();
            assert_eq!(cost(dir.path()), expected, "{text}");
        }
    }
}
