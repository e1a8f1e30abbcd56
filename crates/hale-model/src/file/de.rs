//! Trees to raw forms: a serde deserializer that goes on after a mistake.
//!
//! serde stops at the first error. Here every field of a raw form is a [`Field`], which asks for its value under a
//! name of its own; a mistake below it is noted with its place, and the field is left [`Field::Bad`]. Unknown keys
//! are noted and skipped in the same way. So one reading finds all mistakes of a document.

use std::{cell::RefCell, fmt, marker::PhantomData, path::Path, rc::Rc};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor, value::StrDeserializer},
    forward_to_deserialize_any,
};

use super::{
    error::{Code, Problem, Span},
    tree::{Key, Kind, Node},
};

const FIELD: &str = "$hale::field";
pub(super) const MANY: &str = "$hale::many";

/// What a document is read with: where relative paths begin, and the mistakes found so far.
pub(super) struct Cx<'a> {
    /// The directory of the file, absolute.
    pub(super) dir: &'a Path,
    problems: RefCell<Vec<Problem>>,
    path: RefCell<Vec<String>>,
}

impl<'a> Cx<'a> {
    pub(super) fn new(dir: &'a Path) -> Self {
        Self { dir, problems: RefCell::default(), path: RefCell::default() }
    }

    pub(super) fn note(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// The mistakes, in the order of the text.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.span);
        problems
    }

    fn place(&self) -> String {
        self.path.borrow().concat().trim_start_matches('.').to_owned()
    }

    fn within<T>(&self, segment: String, work: impl FnOnce() -> T) -> T {
        self.path.borrow_mut().push(segment);
        let done = work();
        self.path.borrow_mut().pop();
        done
    }

    fn note_error(&self, span: Span, error: Error) {
        let place = error.place.unwrap_or_else(|| self.place());
        let message = if place.is_empty() { error.message } else { format!("{place}: {}", error.message) };
        let mut problem = Problem::new(error.span.unwrap_or(span), error.code, message);
        problem.help = error.help;
        self.note(problem);
    }
}

/// Reads a raw form. `None`: it is so wrong that there is nothing to look at; why is noted.
pub(super) fn read<T: for<'de> Deserialize<'de>>(node: &Node, cx: &Cx<'_>) -> Option<T> {
    T::deserialize(De { node, cx }).map_err(|error| cx.note_error(node.span, error)).ok()
}

/// A field that may be absent, or wrong.
#[derive(Debug, Clone, Default)]
pub(super) enum Field<T> {
    #[default]
    Absent,
    /// Written, but a mistake in it is noted already.
    Bad,
    Set(At<T>),
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) span: Span,
    pub(super) value: T,
}

impl<T> Field<T> {
    /// The value, if it is there and right.
    pub(super) fn set(self) -> Option<At<T>> {
        match self {
            Self::Set(at) => Some(at),
            _ => None,
        }
    }

    /// The value without its place.
    pub(super) fn value(self) -> Option<T> {
        self.set().map(|at| at.value)
    }

    pub(super) const fn as_set(&self) -> Option<&At<T>> {
        match self {
            Self::Set(at) => Some(at),
            _ => None,
        }
    }

    /// Whether something was written, right or wrong.
    pub(super) const fn is_written(&self) -> bool {
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

/// A mistake on its way to the field it belongs to.
#[derive(Debug)]
pub(super) struct Error {
    message: String,
    code: Code,
    help: Option<String>,
    span: Option<Span>,
    place: Option<String>,
}

impl Error {
    fn new(code: Code, message: impl Into<String>) -> Self {
        Self { message: message.into(), code, help: None, span: None, place: None }
    }

    /// Fixes where it happened; the innermost place wins.
    fn at(mut self, span: Span, cx: &Cx<'_>) -> Self {
        if self.span.is_none() {
            self.span = Some(span);
            self.place = Some(cx.place());
        }
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    /// Text of the form `message (help: …)` is taken apart, so that scalar types can give advice.
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        match message.split_once("\nhelp: ") {
            Some((message, help)) => {
                Self { help: Some(help.to_owned()), ..Self::new(Code::InvalidValue, message) }
            }
            None => Self::new(Code::InvalidValue, message),
        }
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match found {
            de::Unexpected::Map => "a mapping".to_owned(),
            de::Unexpected::Seq => "a list".to_owned(),
            de::Unexpected::Str(text) => format!("text `{}`", shorten(text)),
            de::Unexpected::Unit => "nothing".to_owned(),
            other => other.to_string(),
        };
        Self::new(Code::WrongType, format!("expected {expected}, found {found}"))
    }
}

/// Cuts text to what fits on a line of a message.
pub(super) fn shorten(text: &str) -> String {
    let line = text.lines().next().unwrap_or("");
    if line.chars().count() > 60 || line.len() < text.len() {
        let short: String = line.chars().take(60).collect();
        format!("{short}…")
    } else {
        line.to_owned()
    }
}

/// The one of `words` that `word` was probably meant to be.
pub(super) fn suggest<'w>(word: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let key = |text: &str| text.to_lowercase().replace(['-', '_'], "");
    let word = key(word);
    words
        .into_iter()
        .map(|it| (strsim::damerau_levenshtein(&word, &key(it)), it))
        .filter(|(distance, it)| *distance <= 1 + it.len().max(word.len()) / 5)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, it)| it)
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
                error.help = Some(format!("a list of one is written [\"{}\"]", shorten(text)));
            }
            return Err(error);
        };
        visitor.visit_seq(Items { rest: nodes.iter(), at: 0, cx: self.cx })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.map(None, visitor)
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
            _ => visitor.visit_newtype_struct(self),
        }
    }

    forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// A list of one: where a list may be left out around a single item.
struct One<'n, 'c>(Option<De<'n, 'c>>);

impl<'de> SeqAccess<'de> for One<'_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.take().map(|de| seed.deserialize(de)).transpose()
    }
}

/// What a [`Field`] asks for: start, end, value.
struct FieldParts<'n, 'c> {
    step: u8,
    of: De<'n, 'c>,
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

struct Items<'n, 'c> {
    rest: std::slice::Iter<'n, Rc<Node>>,
    at: usize,
    cx: &'c Cx<'c>,
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

struct Entries<'n, 'c> {
    rest: std::slice::Iter<'n, (Key, Rc<Node>)>,
    value: Option<(&'n Key, &'n Node)>,
    fields: Option<&'static [&'static str]>,
    of: De<'n, 'c>,
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
