//! Text to trees: YAML as it was written, each node with its place in the file.
//!
//! Scalars stay text here. What `1.10` or `on` means is decided by the field it stands in, so that a version in an
//! environment variable stays `1.10` and a country stays `no`.

use std::{rc::Rc, sync::Arc};

use granit_parser::{Event, Options, Parser, ScalarStyle, StrInput, Tag};

use miette::NamedSource;

use super::error::{Code, FileError, Problem, Span};

/// Nesting deeper than this is a mistake or an attack.
const MAX_DEPTH: usize = 64;
/// Nodes of one document, aliases counted as often as they are used: what stops a "billion laughs".
const MAX_NODES: u64 = 1_000_000;

/// A value and where it stands.
#[derive(Debug)]
pub struct Node {
    pub(super) span: Span,
    /// What it is.
    pub kind: Kind,
    /// How many nodes this is with everything under it.
    weight: u64,
}

/// What a value is.
#[derive(Debug)]
pub enum Kind {
    /// Text.
    Scalar {
        /// As it was written, without quotes.
        text: String,
        /// Whether it was not quoted and may be a number, a truth value or null.
        plain: bool,
    },
    /// A list.
    Seq(Vec<Rc<Node>>),
    /// A mapping, in the order it was written.
    Map(Vec<(Key, Rc<Node>)>),
}

/// A key of a mapping.
#[derive(Debug, Clone)]
pub struct Key {
    /// As it was written, without quotes.
    pub text: String,
    pub(super) span: Span,
}

impl Key {
    /// Where it begins, in bytes of the text.
    #[must_use]
    pub const fn start(&self) -> usize {
        self.span.start
    }
}

/// The documents of somebody else's YAML (a compose file, a manifest), each value with its place.
///
/// # Errors
/// The first mistake of syntax: what comes after it is not known to mean anything.
pub fn read_tree(name: &str, text: &str) -> Result<Vec<Rc<Node>>, Box<FileError>> {
    let documents: Result<Vec<_>, _> = Documents::new(text).collect();
    documents.map_err(|problem| {
        let source = Arc::new(NamedSource::new(name, text.to_owned()));
        Box::new(FileError::at(name.into(), source, problem))
    })
}

impl Node {
    /// Where it begins, in bytes of the text.
    #[must_use]
    pub const fn start(&self) -> usize {
        self.span.start
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|(it, _)| it.text == key).map(|(_, node)| &**node),
            _ => None,
        }
    }
}

/// The documents of a text, one at a time.
pub(super) struct Documents<'input> {
    parser: Parser<'input, StrInput<'input>>,
    done: bool,
}

impl<'input> Documents<'input> {
    pub(super) fn new(text: &'input str) -> Self {
        let mut options = Options::default();
        options.emit_comments = false;
        options.block_nesting_limit = MAX_DEPTH * 2;
        options.flow_nesting_limit = MAX_DEPTH;
        Self { parser: Parser::new_from_str_with_options(text, options), done: false }
    }
}

impl Iterator for Documents<'_> {
    type Item = Result<Rc<Node>, Problem>;

    /// The next document. After an error nothing follows: where the next document begins is not known then.
    fn next(&mut self) -> Option<Self::Item> {
        let mut builder = Builder::default();
        while !self.done {
            let (event, span) = match self.parser.next_event()? {
                Ok((event, span)) => (event, place(&span)),
                Err(error) => {
                    self.done = true;
                    return Some(Err(syntax(&error)));
                }
            };
            match builder.take(event, span) {
                Ok(None) => {}
                Ok(Some(document)) => return Some(Ok(document)),
                Err(problem) => {
                    self.done = true;
                    return Some(Err(problem));
                }
            }
        }
        None
    }
}

fn place(span: &granit_parser::Span) -> Span {
    let range = span.byte_range().unwrap_or_default();
    Span { start: range.start, end: range.end }
}

fn syntax(error: &granit_parser::ScanError) -> Problem {
    let at = error.marker().byte_offset().unwrap_or_default();
    let what = error.kind().to_string();
    let problem =
        Problem::new(Span { start: at, end: at + 1 }, Code::Syntax, format!("not valid YAML: {what}"));
    if what.contains("tab") {
        problem.help("indent with spaces")
    } else {
        problem.help("check indentation, quotes, brackets and colons on this line and the one before it")
    }
}

/// A collection whose end has not been seen.
struct Open {
    anchor: usize,
    start: Span,
    items: Items,
}

enum Items {
    Seq(Vec<Rc<Node>>),
    Map(Vec<(Key, Rc<Node>)>, Option<Key>),
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: Vec<(usize, Rc<Node>)>,
    root: Option<Rc<Node>>,
    nodes: u64,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<Option<Rc<Node>>, Problem> {
        match event {
            Event::DocumentEnd => return Ok(self.root.take()),
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && !is_str(tag.as_deref());
                check_tag(tag.as_deref(), span)?;
                let kind = Kind::Scalar { text: text.into_owned(), plain };
                self.add(Node { span, kind, weight: 1 }, anchor)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.begin(anchor, span, tag.as_deref(), Items::Seq(Vec::new()))?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.begin(anchor, span, tag.as_deref(), Items::Map(Vec::new(), None))?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span)?,
            Event::Alias(id) => self.alias(id, span)?,
            _ => {}
        }
        Ok(None)
    }

    fn begin(&mut self, anchor: usize, start: Span, tag: Option<&Tag>, items: Items) -> Result<(), Problem> {
        check_tag(tag, start)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(Problem::new(start, Code::TooBig, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.open.push(Open { anchor, start, items });
        Ok(())
    }

    fn end(&mut self, end: Span) -> Result<(), Problem> {
        let Some(Open { anchor, start, items }) = self.open.pop() else { return Ok(()) };
        let span = Span { start: start.start, end: end.end.max(start.end) };
        let (kind, weight) = match items {
            Items::Seq(nodes) => {
                let weight = nodes.iter().map(|node| node.weight).sum::<u64>();
                (Kind::Seq(nodes), weight)
            }
            Items::Map(entries, _) => {
                let entries = merged(entries)?;
                let weight = entries.iter().map(|(_, node)| node.weight).sum::<u64>();
                (Kind::Map(entries), weight)
            }
        };
        self.add(Node { span, kind, weight: weight + 1 }, anchor)
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<(), Problem> {
        let found = self.anchors.iter().rev().find(|(it, _)| *it == id).map(|(_, node)| Rc::clone(node));
        let Some(node) = found else {
            return Err(Problem::new(
                span,
                Code::Syntax,
                "this alias stands for something it is itself a part of",
            ));
        };
        self.put(node, span)
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Problem> {
        let span = node.span;
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(too_big(span));
        }
        let node = Rc::new(node);
        if anchor != 0 {
            self.anchors.push((anchor, Rc::clone(&node)));
        }
        self.put(node, span)
    }

    fn put(&mut self, node: Rc<Node>, span: Span) -> Result<(), Problem> {
        if node.weight > MAX_NODES {
            return Err(too_big(span));
        }
        match self.open.last_mut().map(|open| &mut open.items) {
            None => self.root = Some(node),
            Some(Items::Seq(nodes)) => nodes.push(node),
            Some(Items::Map(entries, key)) => match key.take() {
                None => *key = Some(as_key(&node, span, entries)?),
                Some(key) => entries.push((key, node)),
            },
        }
        Ok(())
    }
}

fn too_big(span: Span) -> Problem {
    Problem::new(span, Code::TooBig, format!("a document of more than {MAX_NODES} values"))
        .help("aliases count as often as they are used: this looks like a file made to exhaust memory")
}

fn as_key(node: &Node, span: Span, entries: &[(Key, Rc<Node>)]) -> Result<Key, Problem> {
    let Kind::Scalar { text, .. } = &node.kind else {
        return Err(Problem::new(span, Code::WrongType, "a key must be text, not a list or a mapping")
            .help("put braces or brackets in quotes if they are meant as text"));
    };
    // A linear search: mappings in these files are short, and the weight limit bounds the worst.
    if entries.len() < 1000 && entries.iter().any(|(key, _)| key.text == *text) {
        return Err(Problem::new(
            span,
            Code::DuplicateField,
            format!("{text}: stands twice in this mapping"),
        )
        .help("keep one of the two"));
    }
    Ok(Key { text: text.clone(), span })
}

/// Takes in what `<<` names; what the mapping says itself wins.
fn merged(mut entries: Vec<(Key, Rc<Node>)>) -> Result<Vec<(Key, Rc<Node>)>, Problem> {
    let Some(at) = entries.iter().position(|(key, _)| key.text == "<<") else { return Ok(entries) };
    let (key, node) = entries.remove(at);
    let sources = match &node.kind {
        Kind::Seq(nodes) => nodes.clone(),
        _ => vec![node],
    };
    for source in sources {
        let Kind::Map(more) = &source.kind else {
            return Err(Problem::new(key.span, Code::WrongType, "<<: expected an alias of a mapping"));
        };
        for (key, node) in more {
            if !entries.iter().any(|(own, _)| own.text == key.text) {
                entries.push((key.clone(), Rc::clone(node)));
            }
        }
    }
    Ok(entries)
}

fn is_str(tag: Option<&Tag>) -> bool {
    tag.is_some_and(|tag| {
        tag.is_yaml_core_schema_tag("str") || (tag.handle().is_empty() && tag.suffix() == "!")
    })
}

fn check_tag(tag: Option<&Tag>, span: Span) -> Result<(), Problem> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() && !is_str(Some(tag)) => {
            Err(Problem::new(span, Code::Syntax, format!("{}: tags mean nothing here", tag.original())))
        }
        _ => Ok(()),
    }
}
