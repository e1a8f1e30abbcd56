//! Targets as they are written. Doc comments here are what editors show (JSON Schema).

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    de::Field,
    scalar::{Many, Seconds, Text},
};

/// M failures among the last N outcomes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping such as {failures: 3, of: 5}")]
#[schemars(rename = "FailureWindow", extend("required" = ["failures", "of"]))]
pub(super) struct RawFailureWindow {
    /// So many failures turn it failing.
    #[schemars(range(min = 1))]
    pub(super) failures: Field<u32>,
    /// Among so many outcomes, at most 64.
    #[schemars(range(min = 1, max = 64))]
    pub(super) of: Field<u32>,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawDay {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// A time of every week: a target is paused in it, a rule takes alerts in it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a mapping such as {days: [sat, sun], from: \"22:00\", to: \"02:00\", timezone: Europe/Berlin}"
)]
#[schemars(rename = "Maintenance", extend("required" = ["from", "to"]))]
pub(super) struct RawMaintenance {
    /// The days on which it begins. Default: every day.
    pub(super) days: Field<Many<Field<RawDay>>>,
    /// When it begins, such as "22:00".
    pub(super) from: Field<Text>,
    /// When it ends; on the next day when that is not after `from`.
    pub(super) to: Field<Text>,
    /// The time zone of both, such as Europe/Berlin. Default: UTC.
    pub(super) timezone: Field<Text>,
    /// Why; goes on record.
    pub(super) reason: Field<Text>,
}

/// Where a list of targets is read. Exactly one of `url`, `file`, `srv` and `service`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping such as {url: \"http://127.0.0.1:8080/targets\"}"
)]
#[schemars(rename = "TargetsFrom", extend("oneOf" = [
    {"required": ["url"]}, {"required": ["file"]}, {"required": ["srv"]}, {"required": ["service"]}
]))]
pub(super) struct RawTargetsFrom {
    /// A web server that answers in the JSON form of Prometheus' HTTP service discovery.
    pub(super) url: Field<Text>,
    /// A JSON file in the same form, relative to this one, on the node that probes.
    pub(super) file: Field<Text>,
    /// A name with SRV records.
    pub(super) srv: Field<Text>,
    /// A service of hale: all of its running replicas, ready or not.
    pub(super) service: Field<Text>,
    /// How often it is read. Default: 30.
    pub(super) refresh_seconds: Field<Seconds>,
    /// With `url`: a file of certificates to trust, relative to this file.
    pub(super) ca_file: Field<Text>,
    /// With `srv`: the name server, host or host:port. Default: those of the machine.
    pub(super) server: Field<Text>,
}
