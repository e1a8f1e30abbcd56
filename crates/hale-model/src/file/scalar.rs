//! The small values of workload files: text, seconds, durations, sizes, ports.

use std::{borrow::Cow, fmt, marker::PhantomData, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

use super::de::{MANY, TEXT_OR};

/// No time in a file is longer than this: 100 years is a mistake, and adding two of them must not overflow.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

macro_rules! inline_schema {
    ($type:ty, $name:literal, $schema:tt) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                Cow::Borrowed($name)
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

/// Text; a number or a truth value is taken as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text(pub(super) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

inline_schema!(Text, "Text", { "type": ["string", "number", "boolean"] });

/// Seconds as a number, decimals allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seconds(pub(super) Duration);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let seconds: f64 = text.parse().ok().filter(|it: &f64| !it.is_nan()).ok_or_else(|| {
            let hint = if parse_duration(&text).is_some() { "\nhelp: leave the unit out" } else { "" };
            D::Error::custom(format!("expected seconds as a number, such as 10 or 0.5, found `{text}`{hint}"))
        })?;
        if seconds < 0.0 {
            return Err(D::Error::custom(format!("expected seconds, 0 or more, found {text}")));
        }
        let time = Duration::try_from_secs_f64(seconds).ok().filter(|it| *it <= LONGEST);
        time.map(Self).ok_or_else(|| D::Error::custom(format!("{text} seconds are more than 100 years")))
    }
}

inline_schema!(Seconds, "Seconds", { "type": "number", "minimum": 0 });

/// A time with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match parse_duration(&text) {
            Some(time) if time <= LONGEST => Ok(Self(time)),
            Some(_) => Err(D::Error::custom(format!("{text} is more than 100 years"))),
            None => Err(D::Error::custom(format!(
                "expected a duration with a unit, such as 500ms, 10s, 5m or 1h, found `{text}`"
            ))),
        }
    }
}

const DURATION: &str = r"^(0|([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+)$";

inline_schema!(Span, "Duration", { "type": ["string", "integer"], "pattern": DURATION, "maximum": 0, "minimum": 0 });

/// A time with its unit, however long: more than 100 years are 100 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LongSpan(pub(super) Duration);

impl<'de> Deserialize<'de> for LongSpan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text).map(|time| Self(time.min(LONGEST))).ok_or_else(|| {
            D::Error::custom(format!(
                "expected a duration with a unit, such as 500ms, 10s, 5m or 1h, found `{text}`"
            ))
        })
    }
}

inline_schema!(LongSpan, "Duration", { "type": "string", "pattern": DURATION });

/// A time with its unit, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SpanOrOff(pub(super) Option<Duration>);

impl<'de> Deserialize<'de> for SpanOrOff {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match parse_duration(&text) {
            _ if text == "off" => Ok(Self(None)),
            Some(time) if time <= LONGEST => Ok(Self(Some(time))),
            Some(_) => Err(D::Error::custom(format!("{text} is more than 100 years"))),
            None => Err(D::Error::custom(format!(
                "expected `off` or a duration with a unit, such as 10s or 5m, found `{text}`"
            ))),
        }
    }
}

inline_schema!(SpanOrOff, "DurationOrOff", { "anyOf": [{ "const": "off" }, { "type": "string", "pattern": DURATION }] });

/// Reads `500ms`, `10s`, `5m`, `1h`, `1h30m`, and `0`. `None`: it is no duration.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, more) = rest.split_at(digits);
        let letters = more.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(more.len());
        let (unit, more) = more.split_at(letters);
        let unit = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        if number.starts_with('.') || number.ends_with('.') {
            return None;
        }
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok()?;
        total = total.checked_add(part)?;
        rest = more;
    }
    (!text.is_empty()).then_some(total)
}

/// A number of bytes: `64Mi`, `1G`, `4096`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_size(&text).map(Self).ok_or_else(|| {
            D::Error::custom(format!("expected a size in bytes, such as 64Mi, 1Gi or 500M, found `{text}`"))
        })
    }
}

inline_schema!(Size, "Size", { "type": ["string", "integer"], "pattern": r"^[0-9]+(\.[0-9]+)?(k|K|Ki|M|Mi|G|Gi|T|Ti)?$", "minimum": 1 });

fn parse_size(text: &str) -> Option<u64> {
    let letters = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(letters);
    let unit: u64 = match unit {
        "" => 1,
        "k" | "K" => 1000,
        "Ki" => 1 << 10,
        "M" => 1_000_000,
        "Mi" => 1 << 20,
        "G" => 1_000_000_000,
        "Gi" => 1 << 30,
        "T" => 1_000_000_000_000,
        "Ti" => 1 << 40,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(unit);
    }
    if !number.starts_with(|c: char| c.is_ascii_digit()) || unit == 1 {
        return None;
    }
    let bytes = Duration::try_from_secs_f64(number.parse::<f64>().ok()?).ok()?.as_nanos() * u128::from(unit);
    u64::try_from(bytes / 1_000_000_000).ok()
}

/// A port by number or name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PortOrName {
    Number(u16),
    Name(String),
}

impl<'de> Deserialize<'de> for PortOrName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.parse::<i64>() {
            Ok(number) => {
                u16::try_from(number).ok().filter(|port| *port > 0).map(Self::Number).ok_or_else(|| {
                    D::Error::custom(format!(
                        "expected a port from 1 to 65535 or the name of one, found {text}"
                    ))
                })
            }
            Err(_) => Ok(Self::Name(text)),
        }
    }
}

inline_schema!(PortOrName, "PortOrName", { "type": ["string", "integer"], "minimum": 1, "maximum": 65535 });

/// One thing, or a list of them.
#[derive(Debug, Clone)]
pub(super) struct Many<T>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ManyVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ManyVisitor<T> {
            type Value = Many<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Many<T>, A::Error> {
                let mut all = Vec::new();
                while let Some(item) = items.next_element()? {
                    all.push(item);
                }
                Ok(Many(all))
            }
        }
        deserializer.deserialize_newtype_struct(MANY, ManyVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Many<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("Many{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

/// Text in a short form, or a mapping in full.
#[derive(Debug, Clone)]
pub(super) enum TextOr<T> {
    Short(String),
    Full(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for TextOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for TextOrVisitor<T> {
            type Value = TextOr<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or a mapping")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<TextOr<T>, E> {
                Ok(TextOr::Short(text.to_owned()))
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, full: D) -> Result<TextOr<T>, D::Error> {
                T::deserialize(full).map(TextOr::Full)
            }
        }
        deserializer.deserialize_newtype_struct(TEXT_OR, TextOrVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for TextOr<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("TextOr{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let full = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [{ "type": "string" }, full] })
    }
}

/// A limit: a number, or `unlimited`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit(pub(super) u64);

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let limit = if text == "unlimited" { Some(u64::MAX) } else { parse_size(&text) };
        limit.map(Self).ok_or_else(|| {
            D::Error::custom(format!("expected a number, a size such as 64Mi, or unlimited, found `{text}`"))
        })
    }
}

inline_schema!(Limit, "Limit", { "type": ["string", "integer"], "minimum": 0 });
