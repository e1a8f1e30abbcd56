//! Trees to raw forms: a serde deserializer that goes on after a mistake.
//!
//! serde stops at the first error. Here every field of a raw form is a [`Field`], which asks for its value under a
//! name of its own; a mistake below it is noted with its place, and the field is left [`Field::Bad`]. Unknown keys
//! are noted and skipped in the same way. So one reading finds all mistakes of a document.

mod access;
mod cx;
mod field;
mod words;

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IntoDeserializer, Visitor},
    forward_to_deserialize_any,
};

use self::{
    access::{Entries, FieldParts, Items, One},
    cx::Error,
};
use super::{
    error::Code,
    tree::{Kind, Node},
};

pub(super) use self::{
    cx::Cx,
    field::{At, Field},
    words::{as_list, shorten, suggest},
};

const FIELD: &str = "$hale::field";
pub(super) const MANY: &str = "$hale::many";
pub(super) const TEXT_OR: &str = "$hale::text_or";

/// Reads a raw form. `None`: it is so wrong that there is nothing to look at; why is noted.
pub(super) fn read<T: for<'de> Deserialize<'de>>(node: &Node, cx: &Cx<'_>) -> Option<T> {
    T::deserialize(De { node, cx }).map_err(|error| cx.note_error(node.span, error)).ok()
}

#[derive(Clone, Copy)]
struct De<'n, 'c> {
    node: &'n Node,
    cx: &'c Cx<'c>,
}

impl De<'_, '_> {
    fn found(&self) -> String {
        match &self.node.kind {
            Kind::Map(_) => "a mapping".into(),
            Kind::Seq(_) => "a list".into(),
            Kind::Scalar { .. } if self.node.is_null() => "nothing".into(),
            Kind::Scalar { text, plain: true } => format!("`{}`", shorten(text)),
            Kind::Scalar { text, .. } => format!("the text \"{}\" in quotes", shorten(text)),
        }
    }

    fn wrong(&self, expected: impl fmt::Display) -> Error {
        Error::new(Code::WrongType, format!("expected {expected}, found {}", self.found()))
            .at(self.node.span, self.cx)
    }

    fn plain(&self) -> Option<&str> {
        match &self.node.kind {
            Kind::Scalar { text, plain: true } => Some(text),
            _ => None,
        }
    }

    fn whole(&self, min: i128, max: i128) -> Result<i128, Error> {
        let range = || format!("a whole number from {min} to {max}");
        let text = self.plain().ok_or_else(|| self.wrong(range()))?;
        let number = match text.split_at_checked(2) {
            Some(("0x", digits)) => i128::from_str_radix(digits, 16).ok(),
            Some(("0o", digits)) => i128::from_str_radix(digits, 8).ok(),
            _ => text.parse().ok(),
        };
        match number {
            Some(number) if (min..=max).contains(&number) => Ok(number),
            Some(_) => {
                Err(Error::new(Code::InvalidValue, format!("expected {}, found {}", range(), self.found()))
                    .at(self.node.span, self.cx))
            }
            None => Err(self.wrong(range())),
        }
    }

    fn decimal(&self) -> Result<f64, Error> {
        let number = self.plain().and_then(|text| text.parse::<f64>().ok()).filter(|it| it.is_finite());
        number.ok_or_else(|| self.wrong("a number"))
    }

    fn truth(&self) -> Result<bool, Error> {
        match self.plain() {
            Some("true" | "True" | "TRUE") => Ok(true),
            Some("false" | "False" | "FALSE") => Ok(false),
            _ => Err(self.wrong("true or false")),
        }
    }

    fn map<'de, V: Visitor<'de>>(
        self,
        fields: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Kind::Map(entries) = &self.node.kind else { return Err(self.wrong(Expected(&visitor))) };
        let access = Entries { rest: entries.iter(), value: None, fields, of: self };
        visitor.visit_map(access).map_err(|error| error.at(self.node.span, self.cx))
    }
}

struct Expected<'v, V>(&'v V);

impl<'de, V: Visitor<'de>> fmt::Display for Expected<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }
}

macro_rules! whole_numbers {
    ($($method:ident $visit:ident $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let number = self.whole(i128::from(<$type>::MIN), i128::from(<$type>::MAX))?;
            let number = <$type>::try_from(number).map_err(|_| self.wrong("a smaller number"))?;
            visitor.$visit(number).map_err(|error: Error| error.at(self.node.span, self.cx))
        }
    )*};
}

impl<'de> Deserializer<'de> for De<'_, '_> {
    type Error = Error;

    /// As YAML's core schema reads it: for values whose type the file decides.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.kind {
            Kind::Map(_) => self.map(None, visitor),
            Kind::Seq(_) => self.deserialize_seq(visitor),
            Kind::Scalar { .. } if self.node.is_null() => visitor.visit_unit(),
            Kind::Scalar { text, plain: true } => {
                if let Ok(truth) = self.truth() {
                    visitor.visit_bool(truth)
                } else if let Ok(number) = self.whole(0, i128::from(u64::MAX)) {
                    visitor.visit_u64(u64::try_from(number).unwrap_or(u64::MAX))
                } else if let Ok(number) = self.whole(i128::from(i64::MIN), -1) {
                    visitor.visit_i64(i64::try_from(number).unwrap_or(i64::MIN))
                } else if let Some(number) = Some(text)
                    .filter(|it| it.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)))
                    .and_then(|it| it.parse::<f64>().ok())
                {
                    visitor.visit_f64(number)
                } else {
                    visitor.visit_str(text)
                }
            }
            Kind::Scalar { text, .. } => visitor.visit_str(text),
        }
        .map_err(|error: Error| error.at(self.node.span, self.cx))
    }

    whole_numbers! {
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64, deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_f64(self.decimal()?).map_err(|error: Error| error.at(self.node.span, self.cx))
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(self.truth()?)
    }

    /// Any scalar is text where text is asked for, as it was written.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.kind {
            Kind::Scalar { text, .. } if !self.node.is_null() => {
                visitor.visit_str(text).map_err(|error: Error| error.at(self.node.span, self.cx))
            }
            _ => Err(self.wrong("text")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Kind::Seq(nodes) = &self.node.kind else {
            let mut error = self.wrong("a list");
            if let Kind::Scalar { text, .. } = &self.node.kind {
                error.help = Some(as_list(text));
            }
            return Err(error);
        };
        visitor.visit_seq(Items { rest: nodes.iter(), at: 0, cx: self.cx })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let is_list = matches!(self.node.kind, Kind::Seq(_));
        self.map(None, visitor).map_err(|mut error| {
            if is_list {
                error.help.get_or_insert_with(|| "a map is written {NAME: value}".to_owned());
            }
            error
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.map(Some(fields), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let expected = || format!("one of {}", variants.join(", "));
        let Kind::Scalar { text, .. } = &self.node.kind else { return Err(self.wrong(expected())) };
        if !variants.contains(&text.as_str()) {
            let mut error = Error { code: Code::InvalidValue, ..self.wrong(expected()) };
            error.help = suggest(text, variants.iter().copied()).map(|it| format!("did you mean {it}?"));
            return Err(error);
        }
        visitor.visit_enum(text.as_str().into_deserializer())
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match name {
            FIELD => visitor.visit_seq(FieldParts { step: 0, of: self }),
            MANY if matches!(self.node.kind, Kind::Seq(_)) => self.deserialize_seq(visitor),
            MANY => visitor.visit_seq(One(Some(self))),
            TEXT_OR if !matches!(self.node.kind, Kind::Map(_)) => self.deserialize_str(visitor),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}
