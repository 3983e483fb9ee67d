//! The REST API: which endpoint, whose credentials, what it does.

pub(crate) mod auth;
mod bulk;
mod cursor;
mod files;
mod form;
mod params;
mod query;
pub(crate) mod records;
mod search;

use std::cell::{RefCell, RefMut};
use std::sync::MutexGuard;

use http::{Method, StatusCode};

use crate::answer::Answer;
use crate::app::{AppSettings, Right};
use crate::body::{Taken, UploadedFile};
use crate::error::{ApiError, Language};
use crate::head::Head;
use crate::store::Store;
use crate::tenant::{Tenant, TenantSettings};

use auth::Identity;
use params::Params;

/// A call that is understood so far.
struct Call<'a> {
    /// Locked for the whole call, so that each is all or none to the others.
    store: RefCell<MutexGuard<'a, Store>>,
    settings: &'a TenantSettings,
    identity: Identity,
    language: Language,
    /// The guest space in the path.
    space: Option<u64>,
    params: Params,
}

/// Does the work of a request.
pub(crate) fn answer(
    head: &Head,
    tenant: &Tenant,
    settings: &TenantSettings,
    body: Taken,
) -> Result<Answer, ApiError> {
    let Some((space, endpoint)) = endpoint(&head.path) else {
        return Ok(not_found());
    };
    let identity = Identity::of(head, settings)?;
    let method = if head.effective == Method::HEAD {
        Method::GET
    } else {
        head.effective.clone()
    };
    let uploads = endpoint == "file.json" && method == Method::POST;
    let (params, file) = if uploads {
        (Params::default(), body.file)
    } else {
        (Params::of(head, &body)?, None)
    };
    let mut call = Call {
        store: RefCell::new(tenant.store()),
        settings,
        identity,
        language: head.language(),
        space,
        params,
    };
    match (endpoint, method.as_str()) {
        ("bulkRequest.json", "POST") => bulk::run(&mut call),
        ("bulkRequest.json", _) => Ok(wrong_method()),
        (endpoint, method) => done(&call, endpoint, method, file),
    }
}

/// The answer of a call that is not made of others.
fn done(
    call: &Call<'_>,
    endpoint: &str,
    method: &str,
    file: Option<UploadedFile>,
) -> Result<Answer, ApiError> {
    match (endpoint, method) {
        ("records.json", "GET") => records::search(call),
        ("records.json", "POST") => records::add(call),
        ("records.json", "PUT") => records::change(call),
        ("records.json", "DELETE") => records::delete(call),
        ("record.json", "GET") => records::get(call),
        ("record.json", "POST") => records::add_one(call),
        ("record.json", "PUT") => records::change_one(call),
        ("records/cursor.json", "POST") => cursor::create(call),
        ("records/cursor.json", "GET") => cursor::next(call),
        ("records/cursor.json", "DELETE") => cursor::delete(call),
        ("app.json", "GET") => form::app(call),
        ("app/form/fields.json", "GET") => form::fields(call),
        ("app/form/layout.json", "GET") => form::layout(call),
        ("file.json", "GET") => files::download(call),
        ("file.json", "POST") => files::upload(call, file),
        (
            "records.json"
            | "record.json"
            | "records/cursor.json"
            | "app.json"
            | "file.json"
            | "app/form/fields.json"
            | "app/form/layout.json",
            _,
        ) => Ok(wrong_method()),
        (_, _) => Ok(not_found()),
    }
}

/// The guest space and the endpoint of a path under `/k/v1/` or `/k/guest/{space}/v1/`.
fn endpoint(path: &str) -> Option<(Option<u64>, &str)> {
    if let Some(endpoint) = path.strip_prefix("/k/v1/") {
        return Some((None, endpoint));
    }
    let (space, endpoint) = path.strip_prefix("/k/guest/")?.split_once("/v1/")?;
    Some((Some(space.parse().ok()?), endpoint))
}

fn wrong_method() -> Answer {
    Answer::text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
}

fn not_found() -> Answer {
    Answer::html(StatusCode::NOT_FOUND, "404 Not Found")
}

impl Call<'_> {
    fn store(&self) -> RefMut<'_, Store> {
        RefMut::map(self.store.borrow_mut(), |store| &mut **store)
    }

    /// The app that a parameter names, when the path, the credentials and the right allow it. From here the request counts for the
    /// app's daily quota.
    fn app(&self, parameter: &str, right: Right) -> Result<&AppSettings, ApiError> {
        let id = self.params.number(parameter)?;
        let known = self.settings.apps.iter().find(|app| app.id == id);
        let Some(app) = known else {
            // The store words the refusal.
            self.store().app(id)?;
            return Err(no_privilege());
        };
        match (app.guest_space, self.space) {
            (Some(home), None) => return Err(needs_guest_path(home)),
            (home, Some(space)) if home != Some(space) => return Err(no_privilege()),
            (_, _) => {}
        }
        self.identity.may(app, right)?;
        self.store().count(id);
        Ok(app)
    }
}

fn no_privilege() -> ApiError {
    ApiError::new(
        403,
        "CB_NO02",
        "No privilege to proceed.",
        "権限がありません。",
    )
}

fn needs_guest_path(space: u64) -> ApiError {
    ApiError::new(
        400,
        "GAIA_IL23",
        format!(
            "When you operate an app in a guest space, please send the request to '/k/guest/{space}/v1/...'."
        ),
        format!(
            "ゲストスペース内のアプリを操作する場合、リクエストの送信先を「/k/guest/{space}/v1/...」にしてください。"
        ),
    )
}
