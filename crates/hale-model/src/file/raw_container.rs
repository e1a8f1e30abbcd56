//! Containers as they are written. Doc comments here are what editors show (JSON Schema).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    de::Field,
    raw::{RawEnvFrom, RawUlimit},
    scalar::{Many, Text, TextOr},
};
use crate::spec::Pull;

/// A container of an engine on this machine (Docker, Podman).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping such as {image: \"nginx:1.29\"}"
)]
#[schemars(rename = "Container", extend("oneOf" = [{"required": ["image"]}, {"required": ["adopt"]}]))]
pub(super) struct RawContainer {
    /// The image, as the engine understands its name; or `adopt`.
    pub(super) image: Field<Text>,
    /// When the image is fetched from its registry: `missing` when it is not there, `always` before the first start of
    /// a placement, `never`. Default: missing.
    pub(super) pull: Field<Pull>,
    /// Containers that somebody else made, in place of `image`: they are probed and restarted, never made or removed.
    /// Without `replicas`, under `hale up`, all that have the label.
    pub(super) adopt: Field<RawAdopt>,
    /// Replaces the entry point of the image. `$(NAME)` stands for the environment variable NAME. Default: the image's.
    pub(super) command: Field<Vec<Text>>,
    /// Replaces the arguments of the image. Default: the image's, or none with `command`.
    pub(super) args: Field<Vec<Text>>,
    /// Environment variables, added to those of the image.
    pub(super) env: Field<BTreeMap<String, Field<Text>>>,
    /// Environment variables whose values are never shown.
    pub(super) secret_env: Field<BTreeMap<String, Field<Text>>>,
    /// Files of `NAME=value` lines.
    pub(super) env_from: Field<Many<Field<RawEnvFrom>>>,
    /// The working directory inside, absolute. Default: the image's.
    pub(super) working_dir: Field<Text>,
    /// The user to run as inside, `user` or `user:group`. Default: the image's.
    pub(super) user: Field<Text>,
    /// What of this machine it sees: `./data:/data`, `./etc:/etc/app:ro`, or {source, target, readOnly}.
    pub(super) volumes: Field<Vec<Field<TextOr<RawVolume>>>>,
    /// The engine's network it is in; `host` for that of this machine. Default: the engine's own.
    pub(super) network: Field<Text>,
    /// More labels on the container.
    pub(super) labels: Field<BTreeMap<String, Field<Text>>>,
    /// Whether its root file system can't be written. Default: false.
    pub(super) read_only: Field<bool>,
    /// Limits by name, such as nofile: one number, or soft and hard.
    pub(super) ulimits: Field<BTreeMap<String, Field<RawUlimit>>>,
    /// `on`: the image's own HEALTHCHECK counts as one more liveness source. Default: on.
    pub(super) healthcheck: Field<RawSwitch>,
}

/// Containers that somebody else made.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping such as {label: \"autoheal=true\"}")]
#[schemars(rename = "Adopt", extend("required" = ["label"]))]
pub(super) struct RawAdopt {
    /// The label they have: `name=value`, or `name` for any value.
    pub(super) label: Field<Text>,
}

/// A part of this machine's file system, or a volume of the engine, inside a container.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping such as {source: ./data, target: /data}"
)]
#[schemars(rename = "Volume", extend("required" = ["source", "target"]))]
pub(super) struct RawVolume {
    /// A path, relative to this file where it begins with a dot; or the name of a volume of the engine.
    pub(super) source: Field<Text>,
    /// An absolute path inside.
    pub(super) target: Field<Text>,
    /// Whether it can't be written inside. Default: false.
    pub(super) read_only: Field<bool>,
}

/// Whether something is done.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Switch")]
pub(super) enum RawSwitch {
    /// It is.
    On,
    /// It is not.
    Off,
}
