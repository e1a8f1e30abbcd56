//! The routes of the API, each declared once: path, who may ask, what it takes and answers, and the function that does.
//!
//! Router, permissions and the OpenAPI document come from the same declaration, so that none of them can have a route
//! that another lacks.

use axum::{
    Router,
    handler::Handler,
    middleware::from_fn_with_state,
    routing::{MethodFilter, on},
};
use hale_api::Code;
use http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::{
    access::Access,
    api::Api,
    gate::{Gate, authorize},
    idempotency,
};

/// Makes the schema of a type.
pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// One method at one path.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    /// What it does, in one sentence.
    pub(crate) about: &'static str,
    pub(crate) query: Option<SchemaOf>,
    /// Values that a part of the path may have: its name, and they.
    pub(crate) words: Option<(&'static str, Vec<&'static str>)>,
    pub(crate) bodies: Vec<Content>,
    /// Whether there is nothing to do without one.
    pub(crate) needs_body: bool,
    pub(crate) answers: Vec<(u16, Content)>,
    pub(crate) refuses: Vec<Code>,
}

/// A body: its media type, and its schema where it is JSON.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Content {
    pub(crate) media: &'static str,
    pub(crate) schema: Option<SchemaOf>,
}

impl Route {
    pub(crate) const fn get(path: &'static str, access: Access, about: &'static str) -> Self {
        Self::new(Method::GET, path, access, about)
    }

    pub(crate) const fn post(path: &'static str, access: Access, about: &'static str) -> Self {
        Self::new(Method::POST, path, access, about)
    }

    pub(crate) const fn patch(path: &'static str, access: Access, about: &'static str) -> Self {
        Self::new(Method::PATCH, path, access, about)
    }

    pub(crate) const fn delete(path: &'static str, access: Access, about: &'static str) -> Self {
        Self::new(Method::DELETE, path, access, about)
    }

    const fn new(method: Method, path: &'static str, access: Access, about: &'static str) -> Self {
        Self {
            method,
            path,
            access,
            about,
            query: None,
            words: None,
            bodies: Vec::new(),
            needs_body: false,
            answers: Vec::new(),
            refuses: Vec::new(),
        }
    }

    /// The parameters of its query are the fields of this type.
    pub(crate) fn query<T: JsonSchema>(mut self) -> Self {
        self.query = Some(SchemaGenerator::root_schema_for::<T>);
        self.refuses(&[Code::BadRequest])
    }

    /// A part of the path is one of these words.
    pub(crate) fn words(mut self, name: &'static str, words: impl IntoIterator<Item = &'static str>) -> Self {
        self.words = Some((name, words.into_iter().collect()));
        self
    }

    /// Its body is this as JSON.
    pub(crate) fn body<T: JsonSchema>(self) -> Self {
        let schema: SchemaOf = SchemaGenerator::subschema_for::<T>;
        self.takes(Content { media: "application/json", schema: Some(schema) })
    }

    /// It can't do without a body.
    pub(crate) const fn needs_body(mut self) -> Self {
        self.needs_body = true;
        self
    }

    /// Its body is text of this type.
    pub(crate) fn text_body(self, media: &'static str) -> Self {
        self.takes(Content { media, schema: None })
    }

    fn takes(mut self, content: Content) -> Self {
        self.bodies.push(content);
        self.refuses(&[
            Code::BadRequest,
            Code::BodyTooLarge,
            Code::UnsupportedMediaType,
            Code::RequestTimeout,
        ])
    }

    /// It answers with this as JSON.
    pub(crate) fn answers<T: JsonSchema>(mut self, status: u16) -> Self {
        let schema: SchemaOf = SchemaGenerator::subschema_for::<T>;
        self.answers.push((status, Content { media: "application/json", schema: Some(schema) }));
        self
    }

    /// It answers with text of this type.
    pub(crate) fn text(mut self, status: u16, media: &'static str) -> Self {
        self.answers.push((status, Content { media, schema: None }));
        self
    }

    /// It refuses with these, beside what every route refuses with.
    pub(crate) fn refuses(mut self, codes: &[Code]) -> Self {
        for code in codes {
            if !self.refuses.contains(code) {
                self.refuses.push(*code);
            }
        }
        self
    }
}

/// Routes with what answers them, out of `S`.
pub(crate) struct Surface<S = Api> {
    /// `None`: the routes are declared, and not answered.
    gate: Option<Gate>,
    pub(crate) router: Router<S>,
    pub(crate) routes: Vec<Route>,
}

impl<S: Clone + Send + Sync + 'static> Surface<S> {
    pub(crate) fn new(gate: &Gate) -> Self {
        Self { gate: Some(gate.clone()), ..Self::declared() }
    }

    /// The declarations alone.
    pub(crate) fn declared() -> Self {
        Self { gate: None, router: Router::new(), routes: Vec::new() }
    }

    /// Adds a route and what answers it. Nobody gets there whom its access does not allow.
    pub(crate) fn route<H, T>(mut self, route: Route, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        let filter = match route.method {
            Method::POST => MethodFilter::POST,
            Method::DELETE => MethodFilter::DELETE,
            Method::PATCH => MethodFilter::PATCH,
            _ => MethodFilter::GET,
        };
        if let Some(gate) = &self.gate {
            let mut answered = on(filter, handler);
            if route.method == Method::POST {
                answered = answered.layer(from_fn_with_state(gate.clone(), idempotency::once));
            }
            let answered = answered.layer(from_fn_with_state((gate.clone(), route.access), authorize));
            self.router = self.router.route(route.path, answered);
        }
        self.routes.push(route);
        self
    }
}
