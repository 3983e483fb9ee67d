//! What a call to kintone's REST API means: its effective method, its path as a template, and
//! whether it may be sent twice.

use http::{HeaderMap, Method};

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

/// The method kintone acts by.
#[must_use]
pub fn effective_method(method: &Method, headers: &HeaderMap) -> Method {
    if *method != Method::POST {
        return method.clone();
    }
    match headers
        .get(METHOD_OVERRIDE)
        .map(http::HeaderValue::as_bytes)
    {
        Some(b"GET") => Method::GET,
        Some(b"PUT") => Method::PUT,
        Some(b"DELETE") => Method::DELETE,
        Some(_) | None => Method::POST,
    }
}

/// Whether a call may be repeated after an unknown outcome: reads may, except that of a cursor,
/// which moves on with every GET.
#[must_use]
pub fn repeat(effective: &Method, path: &str) -> Repeat {
    let reads = *effective == Method::GET || *effective == Method::HEAD;
    if reads && !path.ends_with("/records/cursor.json") {
        Repeat::Safe
    } else {
        Repeat::Unsafe
    }
}

/// The path as one of a closed set, without query and guest space: fit for a log and a label.
/// What is not part of kintone's API is `other`.
#[must_use]
pub fn template(path: &str) -> &'static str {
    if let Some(rest) = path.strip_prefix("/k/v1/") {
        return find(rest).map_or(OTHER, |api| api.plain);
    }
    if let Some(rest) = path.strip_prefix("/k/guest/")
        && let Some((space, rest)) = rest.split_once("/v1/")
        && !space.is_empty()
        && space.bytes().all(|b| b.is_ascii_digit())
    {
        return find(rest).map_or(OTHER, |api| api.guest);
    }
    COMMON
        .iter()
        .find(|common| **common == path)
        .copied()
        .unwrap_or(OTHER)
}

const OTHER: &str = "other";

struct Api {
    name: &'static str,
    plain: &'static str,
    guest: &'static str,
}

macro_rules! apis {
    ($($name:literal),* $(,)?) => {
        &[$(Api {
            name: $name,
            plain: concat!("/k/v1/", $name),
            guest: concat!("/k/guest/{space}/v1/", $name),
        }),*]
    };
}

/// kintone's REST API, sorted by name (the official OpenAPI file, 2025-04-23, and the plug-in,
/// search and statistics APIs).
static APIS: &[Api] = apis![
    "apis.json",
    "app.json",
    "app/acl.json",
    "app/actions.json",
    "app/adminNotes.json",
    "app/customize.json",
    "app/form/fields.json",
    "app/form/layout.json",
    "app/move.json",
    "app/notifications/general.json",
    "app/notifications/perRecord.json",
    "app/notifications/reminder.json",
    "app/plugins.json",
    "app/reports.json",
    "app/settings.json",
    "app/status.json",
    "app/views.json",
    "apps.json",
    "apps/statistics.json",
    "bulkRequest.json",
    "field/acl.json",
    "file.json",
    "form.json",
    "guests.json",
    "plugin.json",
    "plugin/apps.json",
    "plugins.json",
    "plugins/required.json",
    "preview/app.json",
    "preview/app/acl.json",
    "preview/app/actions.json",
    "preview/app/adminNotes.json",
    "preview/app/customize.json",
    "preview/app/deploy.json",
    "preview/app/form/fields.json",
    "preview/app/form/layout.json",
    "preview/app/notifications/general.json",
    "preview/app/notifications/perRecord.json",
    "preview/app/notifications/reminder.json",
    "preview/app/plugins.json",
    "preview/app/reports.json",
    "preview/app/settings.json",
    "preview/app/status.json",
    "preview/app/views.json",
    "preview/field/acl.json",
    "preview/form.json",
    "preview/record/acl.json",
    "record.json",
    "record/acl.json",
    "record/assignees.json",
    "record/comment.json",
    "record/comments.json",
    "record/status.json",
    "records.json",
    "records/acl/evaluate.json",
    "records/cursor.json",
    "records/status.json",
    "search.json",
    "space.json",
    "space/body.json",
    "space/guests.json",
    "space/members.json",
    "space/thread.json",
    "space/thread/comment.json",
    "spaces/statistics.json",
    "template/space.json",
];

/// Paths outside `/k/` that services call: the User API and OAuth.
static COMMON: &[&str] = &[
    "/oauth2/authorization",
    "/oauth2/token",
    "/v1/groups.json",
    "/v1/group/users.json",
    "/v1/organizations.json",
    "/v1/organization/users.json",
    "/v1/user/groups.json",
    "/v1/user/organizations.json",
    "/v1/users.json",
    "/v1/users/services.json",
];

fn find(name: &str) -> Option<&'static Api> {
    APIS.binary_search_by(|api| api.name.cmp(name))
        .ok()
        .map(|index| &APIS[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(APIS.windows(2).all(|pair| pair[0].name < pair[1].name));
    }

    #[test]
    fn a_guest_space_is_part_of_the_template_but_not_its_number() {
        assert_eq!(template("/k/v1/records.json"), "/k/v1/records.json");
        assert_eq!(
            template("/k/guest/42/v1/record.json"),
            "/k/guest/{space}/v1/record.json"
        );
        assert_eq!(
            template("/k/v1/preview/app/deploy.json"),
            "/k/v1/preview/app/deploy.json"
        );
        assert_eq!(template("/oauth2/token"), "/oauth2/token");
        for other in [
            "/",
            "/k/1/",
            "/k/v1/records.JSON",
            "/k/guest/x/v1/record.json",
            "/k/v1/",
        ] {
            assert_eq!(template(other), "other", "{other}");
        }
    }

    #[test]
    fn only_a_post_is_overridden_and_only_in_upper_case() {
        let with = |value: &'static str| {
            HeaderMap::from_iter([(
                http::HeaderName::from_static(METHOD_OVERRIDE),
                http::HeaderValue::from_static(value),
            )])
        };
        assert_eq!(effective_method(&Method::POST, &with("GET")), Method::GET);
        assert_eq!(effective_method(&Method::POST, &with("get")), Method::POST);
        assert_eq!(effective_method(&Method::PUT, &with("GET")), Method::PUT);
        assert_eq!(
            effective_method(&Method::POST, &HeaderMap::new()),
            Method::POST
        );
    }

    #[test]
    fn reading_a_cursor_moves_it() {
        assert_eq!(repeat(&Method::GET, "/k/v1/records.json"), Repeat::Safe);
        assert_eq!(
            repeat(&Method::GET, "/k/v1/records/cursor.json"),
            Repeat::Unsafe
        );
        assert_eq!(repeat(&Method::POST, "/k/v1/record.json"), Repeat::Unsafe);
        assert_eq!(
            repeat(&Method::DELETE, "/k/v1/records.json"),
            Repeat::Unsafe
        );
    }
}
