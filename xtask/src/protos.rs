//! `cargo xtask protos`: the code of the wire's messages from `proto/`, without `protoc`.
//!
//! What it makes is committed, so that building hale needs nothing but Rust; `cargo xtask test` compares.

use std::{fs, path::Path};

use protox::prost::Message;

use crate::Outcome;

/// Options of `cargo xtask protos`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write nothing, and fail when something is not as it would be written.
    #[arg(long)]
    check: bool,
}

impl Args {
    /// Only compares.
    pub(crate) const fn check() -> Self {
        Self { check: true }
    }
}

/// The sources, below `proto`.
const SOURCES: [&str; 2] = ["hale/v1/node.proto", "hale/v1/gateway.proto"];

/// What is made, with its descriptors, which reflection serves.
const MADE: [&str; 2] = ["hale.v1.rs", "hale.v1.bin"];

/// Generates, or compares.
pub(crate) fn run(args: &Args) -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let to = root.join("crates/hale-api/src/proto");
    let made = root.join("target/protos");
    fs::create_dir_all(&made).map_err(|error| format!("{}: {error}", made.display()))?;
    generate(&root.join("proto"), &made)?;
    for name in MADE {
        let (new, old) = (read(&made.join(name))?, fs::read(to.join(name)).unwrap_or_default());
        if new == old {
            continue;
        }
        if args.check {
            return Err(format!("{name} is not what proto/ says; run `cargo xtask protos`"));
        }
        fs::write(to.join(name), new).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn generate(proto: &Path, to: &Path) -> Outcome {
    let files = SOURCES.map(|source| proto.join(source));
    let descriptors = protox::compile(files, [proto]).map_err(|error| format!("{error:?}"))?;
    fs::write(to.join("hale.v1.bin"), descriptors.encode_to_vec()).map_err(|error| error.to_string())?;
    tonic_prost_build::configure()
        .out_dir(to)
        .btree_map(".")
        .compile_fds(descriptors)
        .map_err(|error| error.to_string())?;
    Ok(())
}
