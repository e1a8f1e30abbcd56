//! Fields that go on after a mistake.

use std::{fmt, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};

use super::FIELD;
use crate::file::error::Span;

/// A field that may be absent, or wrong.
#[derive(Debug, Clone, Default)]
pub(in crate::file) enum Field<T> {
    #[default]
    Absent,
    /// Written, but a mistake in it is noted already.
    Bad,
    Set(At<T>),
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(in crate::file) struct At<T> {
    pub(in crate::file) span: Span,
    pub(in crate::file) value: T,
}

impl<T> Field<T> {
    /// The value, if it is there and right.
    pub(in crate::file) fn set(self) -> Option<At<T>> {
        match self {
            Self::Set(at) => Some(at),
            _ => None,
        }
    }

    /// The value without its place.
    pub(in crate::file) fn value(self) -> Option<T> {
        self.set().map(|at| at.value)
    }

    pub(in crate::file) const fn as_set(&self) -> Option<&At<T>> {
        match self {
            Self::Set(at) => Some(at),
            _ => None,
        }
    }

    /// Whether something was written, right or wrong.
    pub(in crate::file) const fn is_written(&self) -> bool {
        !matches!(self, Self::Absent)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for FieldVisitor<T> {
            type Value = Field<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Field<T>, A::Error> {
                let start = parts.next_element::<usize>()?.unwrap_or_default();
                let end = parts.next_element::<usize>()?.unwrap_or_default();
                // The access has noted the mistake; nothing is lost by dropping the error here.
                Ok(match parts.next_element::<T>() {
                    Ok(Some(value)) => Field::Set(At { span: Span { start, end }, value }),
                    Ok(None) => Field::Absent,
                    Err(_) => Field::Bad,
                })
            }
        }
        deserializer.deserialize_newtype_struct(FIELD, FieldVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}
