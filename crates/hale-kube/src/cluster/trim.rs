//! Objects read without what health does not need: it is dropped while it is parsed, and never held (K3, O15).

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Fields that are large, frequent, or secret, and tell nothing of health.
const DROPPED: [&str; 27] = [
    "affinity",
    "annotations",
    "args",
    "command",
    "data",
    "dnsConfig",
    "env",
    "envFrom",
    "exec",
    "hostAliases",
    "image",
    "imageID",
    "images",
    "lifecycle",
    "managedFields",
    "nodeInfo",
    "podTemplate",
    "resources",
    "securityContext",
    "selector",
    "stringData",
    "template",
    "tolerations",
    "topologySpreadConstraints",
    "volumeAttributes",
    "volumeClaimTemplates",
    "volumeMounts",
];

/// Parses an object of the API, trimmed.
///
/// # Errors
/// It is not JSON.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Trimmed.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// Reads a value without the dropped fields.
#[derive(Clone, Copy)]
pub(crate) struct Trimmed;

impl<'de> DeserializeSeed<'de> for Trimmed {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Trimmed {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            values.push(item);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            if DROPPED.binary_search(&key.as_str()).is_ok() {
                fields.next_value::<IgnoredAny>()?;
            } else {
                let value = fields.next_value_seed(self)?;
                map.insert(key, value);
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dropped_fields_are_sorted_because_they_are_searched() {
        assert!(DROPPED.is_sorted());
    }

    #[test]
    fn what_tells_of_health_stays_and_the_rest_is_never_held() {
        let text = br#"{"metadata":{"name":"a","managedFields":[{"x":1}],"labels":{"l":"v"},"annotations":{"a":"b"}},
            "spec":{"containers":[{"name":"c","env":[{"name":"P","value":"secret"}],"readinessProbe":{"periodSeconds":2,
            "exec":{"command":["x"]}}}]},"status":{"phase":"Running","n":-1,"f":1.5,"z":null,"b":true}}"#;
        let value = parse(text).unwrap();
        assert_eq!(
            value.to_string(),
            r#"{"metadata":{"name":"a","labels":{"l":"v"}},"spec":{"containers":[{"name":"c","readinessProbe":{"periodSeconds":2}}]},"status":{"phase":"Running","n":-1,"f":1.5,"z":null,"b":true}}"#
        );
        assert!(parse(b"{} x").is_err());
    }

    #[test]
    fn the_judgement_of_trimmed_objects_is_the_same() {
        use crate::judge::{Settings, World};
        let dir = format!("{}/tests/objects", env!("CARGO_MANIFEST_DIR"));
        for file in std::fs::read_dir(dir).unwrap().map(|it| it.unwrap().path()) {
            if file.extension().is_none_or(|it| it != "json") {
                continue;
            }
            let bytes = std::fs::read(&file).unwrap();
            let mut dump = crate::dump::Dump::default();
            dump.read(&bytes).unwrap();
            let mut world = World::default();
            for object in parse(&bytes).unwrap()["items"].as_array().unwrap() {
                world.add(None, None, object);
            }
            let now = dump.newest.unwrap();
            let settings = Settings::default();
            assert_eq!(world.judge(now, &settings), dump.world.judge(now, &settings), "{}", file.display());
        }
    }
}
