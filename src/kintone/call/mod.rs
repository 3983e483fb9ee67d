//! What a call to kintone's REST API means: its effective method, its path as a template, the apps
//! it is about, whether it counts for them, and whether it may be sent twice.
//!
//! Read from the head at once ([`Meaning::read`]), and from the body while it passes
//! ([`BodyReader`]). What cannot be known is said to be unknown.

use http::{HeaderMap, Method};

use crate::kintone::cursor::CursorId;
use crate::model::AppId;

pub use apps::{Apps, Knowledge};
pub use body::{BodyReader, READ_MAX};
pub use grammar::{Counted, OTHER};

mod apps;
mod body;
mod grammar;
mod query;

use body::Said;
use grammar::{Home, Look};
use query::Form;

/// The header by which a POST stands for another method. kintone reads it on POST only, its value
/// in upper case (<https://kintone.dev/en/docs/kintone/rest-api/overview/kintone-rest-api-overview/>).
pub const METHOD_OVERRIDE: &str = "x-http-method-override";

/// Whether a call whose outcome is unknown may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It reads, and reading twice changes nothing.
    Safe,
    /// It may have had an effect; only a refusal at admission lets it go again.
    Unsafe,
}

/// What a call means, as far as its head says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meaning {
    /// The method that kintone acts by.
    pub method: Method,
    /// The path as [`template`] has it.
    pub path: &'static str,
    /// Whether it counts for its apps.
    pub counted: Counted,
    /// Whether it may be sent again.
    pub repeat: Repeat,
    /// Whether kintone's answer will name a new cursor.
    pub makes_cursor: bool,
    scope: Scope,
}

/// What is known of the apps.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    /// All there is to know.
    Known(Apps),
    /// The parameters say it.
    Parameters { look: Look, query: Option<Said> },
}

/// Which apps a call is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// These.
    Apps(Apps),
    /// The app of this cursor.
    Cursor(CursorId),
}

impl Meaning {
    /// Reads a head as kintone receives it: hop-by-hop fields must be gone, since a method override
    /// that does not arrive is none.
    #[must_use]
    pub fn read(method: &Method, headers: &HeaderMap, path: &str, query: Option<&str>) -> Self {
        let method = effective_method(method, headers);
        let (template, counted, scope, home) = match grammar::find(path) {
            Some((api, template)) => {
                let scope = scope(api.home, &method, query);
                (template, api.counted, scope, Some(api.home))
            }
            None => match grammar::find_common(path) {
                Some(common) => (common, Counted::No, Scope::Known(Apps::NONE), None),
                None => (OTHER, Counted::Unknown, Scope::Known(Apps::UNKNOWN), None),
            },
        };
        Self {
            path: template,
            counted,
            repeat: repeat(&method, template, path),
            makes_cursor: home == Some(Home::Cursor) && method == Method::POST,
            scope,
            method,
        }
    }

    /// Who reads the body, if the body can say anything.
    #[must_use]
    pub fn body_reader(&self) -> Option<BodyReader> {
        match &self.scope {
            Scope::Known(_) => None,
            Scope::Parameters { look, .. } => Some(BodyReader::new(*look)),
        }
    }

    /// Which apps the call is about, by its head and by what `body` has said so far.
    #[must_use]
    pub fn subject(&self, body: Option<&BodyReader>) -> Subject {
        let (look, query) = match &self.scope {
            Scope::Known(apps) => return Subject::Apps(apps.clone()),
            Scope::Parameters { look, query } => (*look, query.clone()),
        };
        let body = body.map(BodyReader::said);
        if look == Look::Cursor {
            let named = |said: Option<Said>| said.and_then(|said| said.cursor);
            return match (named(query), named(body)) {
                (Some(query), Some(body)) if query != body => Subject::Apps(Apps::UNKNOWN),
                (Some(cursor), _) | (None, Some(cursor)) => Subject::Cursor(cursor),
                (None, None) => Subject::Apps(Apps::UNKNOWN),
            };
        }
        let named = |said: Option<Said>| said.and_then(|said| said.apps);
        Subject::Apps(Apps::agree(named(query), named(body)))
    }

    /// The app, if the head alone says that it is about exactly one.
    #[must_use]
    pub fn app(&self) -> Option<AppId> {
        match &self.scope {
            Scope::Known(apps) => apps.only(),
            Scope::Parameters { query, .. } => query.as_ref()?.apps.as_ref()?.only(),
        }
    }
}

/// The path as one of a closed set, without query and guest space: fit for a log and a label. What
/// is not part of kintone's API is `other`.
#[must_use]
pub fn template(path: &str) -> &'static str {
    grammar::find(path)
        .map(|(_, template)| template)
        .or_else(|| grammar::find_common(path))
        .unwrap_or(OTHER)
}

/// The method kintone acts by.
fn effective_method(method: &Method, headers: &HeaderMap) -> Method {
    if *method != Method::POST {
        return method.clone();
    }
    let mut said = headers.get_all(METHOD_OVERRIDE).iter();
    match (said.next().map(http::HeaderValue::as_bytes), said.next()) {
        (Some(b"GET"), None) => Method::GET,
        (Some(b"PUT"), None) => Method::PUT,
        (Some(b"DELETE"), None) => Method::DELETE,
        // Two of them, or one that kintone does not know: a write, until it is known better.
        (Some(_) | None, _) => Method::POST,
    }
}

/// Reads may be repeated, except that of a cursor, which moves on with every GET. A path that is
/// not written as kintone writes its own may be any, that of a cursor too.
fn repeat(effective: &Method, template: &str, path: &str) -> Repeat {
    let is_read = *effective == Method::GET || *effective == Method::HEAD;
    let is_cursor = template.ends_with("/records/cursor.json");
    if is_read && !is_cursor && (template != OTHER || is_plain(path)) {
        Repeat::Safe
    } else {
        Repeat::Unsafe
    }
}

/// Whether an unknown path means itself to every server: nothing encoded, no parameters, no empty
/// or dotted segments; and nothing that another version of the cursor API might be.
fn is_plain(path: &str) -> bool {
    let is_plain = |segment: &str| {
        let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        segment.bytes().all(known)
            && !matches!(segment, "." | "..")
            && !segment.to_ascii_lowercase().contains("cursor")
    };
    let inner = path.strip_prefix('/').unwrap_or(path);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    inner
        .split('/')
        .all(|segment| is_plain(segment) && (!segment.is_empty() || inner.is_empty()))
}

fn scope(home: Home, method: &Method, query: Option<&str>) -> Scope {
    match (home.look(method), home) {
        (Some(look), _) => Scope::Parameters {
            look,
            query: query.and_then(|query| said_by_query(query, look)),
        },
        (None, Home::Unread) => Scope::Known(Apps::UNKNOWN),
        (None, _) => Scope::Known(Apps::NONE),
    }
}

fn said_by_query(query: &str, look: Look) -> Option<Said> {
    let (name, form) = match look {
        Look::App => ("app", Form::One),
        Look::Id | Look::Cursor => ("id", Form::One),
        Look::Deployment => ("apps", Form::List),
        Look::Bulk => return None,
    };
    let mut values = query::values(query, name, form).peekable();
    values.peek()?;
    let mut said = Said {
        apps: None,
        cursor: None,
    };
    if look == Look::Cursor {
        let first = values.next();
        if values.next().is_none() {
            said.cursor = first.and_then(|id| CursorId::parse(std::str::from_utf8(&id).ok()?));
        }
        return Some(said);
    }
    let mut apps = Apps::NONE;
    for value in values {
        match apps::number(&value) {
            Some(app) => apps.add_once(app),
            None => apps.doubt(),
        }
    }
    if form == Form::One && apps.iter().count() > 1 {
        apps.doubt();
    }
    said.apps = Some(apps);
    Some(said)
}
