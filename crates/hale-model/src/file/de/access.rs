//! Lists, mappings and fields as serde asks for them.

use std::rc::Rc;

use serde::de::{DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, value::StrDeserializer};

use super::{
    De,
    cx::{Cx, Error},
    suggest,
};
use crate::file::{
    error::{Code, Problem},
    tree::{Key, Node},
};

/// A list of one: where a list may be left out around a single item.
pub(super) struct One<'n, 'c>(pub(super) Option<De<'n, 'c>>);

impl<'de> SeqAccess<'de> for One<'_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.take().map(|de| seed.deserialize(de)).transpose()
    }
}

/// What a [`Field`] asks for: start, end, value.
pub(super) struct FieldParts<'n, 'c> {
    pub(super) step: u8,
    pub(super) of: De<'n, 'c>,
}

impl<'de> SeqAccess<'de> for FieldParts<'_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.step += 1;
        let span = self.of.node.span;
        match self.step {
            1 => seed.deserialize(span.start.into_deserializer()).map(Some),
            2 => seed.deserialize(span.end.into_deserializer()).map(Some),
            _ if self.of.node.is_null() => Ok(None),
            _ => seed.deserialize(self.of).map(Some).map_err(|error| {
                self.of.cx.note_error(span, error);
                Error::new(Code::InvalidValue, "noted already")
            }),
        }
    }
}

pub(super) struct Items<'n, 'c> {
    pub(super) rest: std::slice::Iter<'n, Rc<Node>>,
    pub(super) at: usize,
    pub(super) cx: &'c Cx<'c>,
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(node) = self.rest.next() else { return Ok(None) };
        let segment = format!("[{}]", self.at);
        self.at += 1;
        self.cx.within(segment, || seed.deserialize(De { node, cx: self.cx })).map(Some)
    }
}

pub(super) struct Entries<'n, 'c> {
    pub(super) rest: std::slice::Iter<'n, (Key, Rc<Node>)>,
    pub(super) value: Option<(&'n Key, &'n Node)>,
    pub(super) fields: Option<&'static [&'static str]>,
    pub(super) of: De<'n, 'c>,
}

impl Entries<'_, '_> {
    fn note_unknown(&self, key: &Key, fields: &[&str]) {
        let cx = self.of.cx;
        let place = cx.within(format!(".{}", key.text), || cx.place());
        let message = match suggest(&key.text, fields.iter().copied()) {
            Some(meant) => format!("{place}: unknown field, did you mean {meant}?"),
            None => format!("{place}: unknown field"),
        };
        cx.note(
            Problem::new(key.span, Code::UnknownField, message)
                .label("unknown field")
                .help(format!("the fields here are {}", fields.join(", "))),
        );
    }
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        while let Some((key, node)) = self.rest.next() {
            if let Some(fields) = self.fields
                && !fields.contains(&key.text.as_str())
            {
                self.note_unknown(key, fields);
                continue;
            }
            self.value = Some((key, node));
            let key: StrDeserializer<'_, Error> = key.text.as_str().into_deserializer();
            return seed.deserialize(key).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some((key, node)) = self.value.take() else {
            return Err(Error::new(Code::InvalidValue, "a key without a value"));
        };
        let cx = self.of.cx;
        cx.within(format!(".{}", key.text), || seed.deserialize(De { node, cx }))
    }
}
